/* Files dropped or chosen on the page Upload: sent one after the other, each with its progress. */
(() => {
  "use strict";

  const form = document.getElementById("upload");
  const input = form.querySelector("input[type=file]");
  const drop = form.querySelector(".drop");
  const list = form.querySelector(".uploads");
  const maxBytes = Number(form.dataset.maxBytes);
  const waiting = [];
  let busy = false;

  function row(file) {
    const item = document.createElement("li");
    const name = document.createElement("span");
    const bar = document.createElement("progress");
    const said = document.createElement("span");
    name.textContent = file.name;
    bar.max = 100;
    bar.value = 0;
    bar.setAttribute("aria-label", `Progress of ${file.name}`);
    said.textContent = "waits";
    item.append(name, bar, said);
    list.append(item);
    return { file, item, name, bar, said };
  }

  function ended(one, problem, answer) {
    one.bar.remove();
    one.item.className = problem ? "bad" : "good";
    one.said.textContent = problem || "stored";
    if (answer) {
      const link = document.createElement("a");
      link.href = answer.link;
      link.textContent = answer.title;
      one.name.replaceWith(link);
    }
    busy = false;
    next();
  }

  function answered(one, request) {
    let answer;
    try {
      answer = JSON.parse(request.responseText);
    } catch {
      return ended(one, request.status === 413 ? "The file is too large." : `The server answered ${request.status}; load the page again and retry.`);
    }
    ended(one, answer.problem, answer.link ? answer : null);
  }

  function next() {
    if (busy || !waiting.length) return;
    busy = true;
    const one = waiting.shift();
    if (one.file.size > maxBytes) return ended(one, `The file is over ${maxBytes.toLocaleString()} bytes.`);
    const fields = new FormData(form);
    for (const name of ["file", "text", "title"]) fields.delete(name);
    fields.append("file", one.file);
    const request = new XMLHttpRequest();
    request.open("POST", location.pathname);
    request.setRequestHeader("Accept", "application/json");
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      one.bar.value = (100 * event.loaded) / event.total;
      one.said.textContent = event.loaded < event.total ? `${Math.floor(one.bar.value)}%` : "is read…";
    });
    request.addEventListener("load", () => answered(one, request));
    request.addEventListener("error", () => ended(one, "The connection broke; retry."));
    request.send(fields);
  }

  function take(files) {
    for (const file of files) waiting.push(row(file));
    next();
  }

  form.querySelector("[data-with-script]").hidden = false;
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => take([...event.dataTransfer.files]));
})();
