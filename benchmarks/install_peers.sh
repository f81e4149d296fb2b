#!/usr/bin/env bash
# Install what this server is measured against, each beside the virtual environment. Does nothing when all is there.
# Needs torch's CPU build under this name, as `make test` does.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${VENV:-.venv}/bin/python"
pip="-m pip install --quiet --disable-pip-version-check"
before=513a80f

if ! [ -e .tools/bench-fastapi/ready ]; then
  echo "Installing FastAPI ..."
  "$python" $pip --upgrade --target .tools/bench-fastapi \
    'fastapi==0.165.0' 'uvicorn==0.32.1' 'httptools==0.9.0' 'uvloop==0.23.0'
  touch .tools/bench-fastapi/ready
fi

if ! [ -e .tools/bench-peers/ready ]; then
  echo "Installing Infinity with its engines (some minutes) ..."
  "$python" -m venv --clear .tools/bench-peers
  .tools/bench-peers/bin/python $pip \
    torch==2.13.0 'infinity-emb[server,torch,optimum]==0.0.78' sentence-transformers==3.4.1 transformers==4.57.6 \
    optimum==2.1.0 optimum-onnx==0.1.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==1.26.4 psutil==7.2.2
  touch .tools/bench-peers/ready
fi

if ! [ -e .tools/bench-litellm/ready ]; then
  echo "Installing LiteLLM's proxy ..."
  "$python" -m venv --clear .tools/bench-litellm
  .tools/bench-litellm/bin/python $pip 'litellm[proxy]==1.108.7'
  touch .tools/bench-litellm/ready
fi

if ! [ -e .tools/bench-$before/ready ]; then
  if git cat-file -e "$before^{commit}" 2>/dev/null; then
    echo "Installing this project's commit $before ..."
    rm -rf .tools/bench-$before
    mkdir -p .tools/bench-$before
    git archive $before | tar -x -C .tools/bench-$before
    "$python" -m venv .tools/bench-$before/.venv
    (cd .tools/bench-$before && .venv/bin/python $pip --constraint .ci/lock.txt --editable .)
    touch .tools/bench-$before/ready
  else
    echo "Skipping $before: this checkout has no history, so nothing is compared with it."
  fi
fi
