{{- define "embeddings.name" -}}
{{- ternary .Release.Name (printf "%s-embeddings" .Release.Name) (contains "embeddings" .Release.Name) | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- /* Labels of what belongs to `part` (web, worker), by which it is selected: (list . "web") */ -}}
{{- define "embeddings.selector" -}}
app.kubernetes.io/name: embeddings-server
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "embeddings.labels" -}}
{{ include "embeddings.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{- /* What all containers share. */ -}}
{{- define "embeddings.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
envFrom:
  - configMapRef: { name: {{ include "embeddings.name" . }} }
  - secretRef: { name: {{ .Values.secretName }} }
volumeMounts:
  - { name: data, mountPath: /data }
  - { name: tmp, mountPath: /tmp }
{{- end }}

{{- /* What all pods share: (list . "web") */ -}}
{{- define "embeddings.pod" -}}
{{- $top := index . 0 -}}
{{- $selector := include "embeddings.selector" . -}}
serviceAccountName: {{ include "embeddings.name" $top }}
automountServiceAccountToken: false
enableServiceLinks: false # or a Service of that name would set EMBEDDINGS_SERVICE_HOST, which is no setting
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- $selector | nindent 8 }}
  {{- end }}
volumes:
  - name: data
    {{- toYaml $top.Values.data | nindent 4 }}
  - name: tmp
    emptyDir: { sizeLimit: 2Gi }
{{- range $key := list "imagePullSecrets" "nodeSelector" "tolerations" "affinity" }}
{{- with index $top.Values $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
