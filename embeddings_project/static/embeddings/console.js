/* The console's own: charts, the reader's time zone, copying. All else is htmx, by attributes. */
(() => {
  "use strict";

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const path = document.currentScript.src.includes("/static/")
    ? new URL(document.currentScript.src).pathname.split("/static/")[0] + "/"
    : "/";
  if (zone) document.cookie = `time_zone=${zone}; path=${path}; max-age=31536000; samesite=lax`;

  const charts = new Map(); // canvas -> Chart

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function dataset(one, kind) {
    const colour = css(`--tone-${one.tone}`);
    return {
      label: one.name,
      data: kind === "scatter" ? one.values.map(([x, y]) => ({ x, y })) : one.values,
      names: one.names,
      borderColor: colour,
      backgroundColor: kind === "area" ? `${colour}55` : colour,
      fill: kind === "area",
      borderWidth: kind === "scatter" ? 0 : 2,
      // A figure between two gaps is no line: it needs a point.
      pointRadius: ({ dataIndex: at, dataset: { data } }) =>
        kind === "scatter" ? 5 : (data[at - 1] ?? null) === null && (data[at + 1] ?? null) === null ? 3 : 0,
      pointHitRadius: 8,
      tension: 0.2,
      spanGaps: false,
    };
  }

  function options(spec) {
    const grid = { color: css("--console-line") };
    const ticks = { color: css("--console-subtle"), maxRotation: 0, autoSkipPadding: 16 };
    const unit = spec.unit ? ` ${spec.unit}` : "";
    const scatter = spec.kind === "scatter";
    return {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: scatter ? "nearest" : "index", intersect: scatter },
      scales: {
        x: { stacked: spec.stacked, grid: { display: scatter, ...grid }, ticks: { ...ticks, display: !scatter } },
        y: { stacked: spec.stacked, beginAtZero: !scatter, grid, ticks: { ...ticks, display: !scatter, precision: unit ? undefined : 0 } },
      },
      plugins: {
        legend: { display: spec.series.length > 1, labels: { color: css("--console-text"), boxWidth: 12 } },
        tooltip: {
          callbacks: {
            label: (item) =>
              scatter
                ? item.dataset.names[item.dataIndex] || item.dataset.label
                : `${item.dataset.label}: ${item.formattedValue}${unit}`,
          },
        },
      },
    };
  }

  function draw() {
    for (const [canvas, chart] of charts) {
      chart.destroy();
      charts.delete(canvas);
    }
    for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
      const spec = JSON.parse(document.getElementById(canvas.dataset.chart).textContent);
      const kind = spec.kind === "area" ? "line" : spec.kind;
      const datasets = spec.series.map((one) => dataset(one, spec.kind));
      charts.set(canvas, new Chart(canvas, { type: kind, data: { labels: spec.labels, datasets }, options: options(spec) }));
    }
  }

  async function copy(button) {
    const text = document.getElementById(button.dataset.copy).textContent;
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without https browsers give no clipboard: select it for the reader to copy.
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => (button.textContent = said), 2000);
  }

  addEventListener("load", () => {
    draw();
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["class"] });
  });
  addEventListener("htmx:afterSettle", draw);
  addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
  // A part that asks for itself again waits while its reader has something of it open, or is in it.
  addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.target;
    const polls = (part.getAttribute("hx-trigger") || "").includes("every");
    if (polls && part.querySelector("details[open], :focus")) event.detail.shouldSwap = false;
  });
})();
