"use strict";

const $ = (id) => document.getElementById(id);
const COLOURS = document.body.dataset.colours.split(" ");
// One photo at a time; a newer request aborts the older one, which the server then drops.
// A result that is shown is the file's: choosing another hides it.
const state = { file: null, threshold: null, answer: null, request: null, note: "" };

function choose(files) {
  if (!files.length) return;
  state.file = files[0];
  state.threshold = null;
  state.note = files.length > 1 ? ` (the first of ${files.length} files; the others are not used)` : "";
  $("result").hidden = true;
  showInput(state.file);
  predict();
}

async function post(query, signal) {
  const form = new FormData();
  form.append("image", state.file);
  const key = $("key").value;
  if (/[^ -~]/.test(key)) throw new Error("the API key has letters that no key can have");
  const headers = new Headers(key ? { Authorization: `Bearer ${key}` } : {});
  const options = { method: "POST", body: form, headers, signal };
  const url = `${document.body.dataset.predict}?${new URLSearchParams(query)}`;
  const response = await fetch(url, options).catch((error) => {
    throw error.name === "TypeError" ? new Error("the server cannot be reached; try again") : error;
  });
  if (response.ok) return response;
  $("key-form").hidden = response.status !== 401;
  const problem = await response.json().catch(() => null); // a proxy's own page, say
  throw new Error(problem?.detail ?? `the server answered ${response.status}`);
}

async function predict() {
  if (!state.file) return;
  if (state.request) state.request.abort();
  const request = new AbortController();
  state.request = request;
  document.body.classList.add("busy");
  say("Looking for cracks …");
  try {
    const query = { format: "json", overlay: "true" };
    if (state.threshold !== null) query.threshold = state.threshold;
    show(await (await post(query, request.signal)).json());
  } catch (error) {
    if (error.name === "AbortError") return;
    if (state.answer) showThreshold(state.answer.threshold);
    say(`${state.file.name}: ${error.message}`, true);
  }
  if (state.request === request) document.body.classList.remove("busy");
}

function say(text, isError = false) {
  $("status").textContent = text + state.note;
  $("status").classList.toggle("error", isError);
}

function showInput(file) {
  if ($("input").src) URL.revokeObjectURL($("input").src);
  $("input").hidden = false;
  $("no-preview").hidden = true;
  $("input").src = URL.createObjectURL(file);
}

function show(answer) {
  state.answer = answer;
  $("key-form").hidden = true;
  $("percent").textContent = percent(answer.percent_masked);
  $("between").textContent = between(answer);
  $("unmasked").textContent = percent(answer.percent_unmasked);
  $("count").textContent = answer.instances.length;
  $("size").textContent = `${answer.width} × ${answer.height} px`;
  $("output").src = answer.overlay;
  showThreshold(answer.threshold);
  $("instances").replaceChildren(...answer.instances.map(row));
  $("none").hidden = answer.instances.length > 0;
  $("marker").hidden = true;
  $("result").hidden = false;
  say(`${answer.file_name}: ${percent(answer.percent_masked)} of the photo is crack.`);
}

function showThreshold(threshold) {
  $("threshold").value = threshold;
  $("threshold-value").textContent = Number(threshold).toFixed(2);
}

function between(answer) {
  if (answer.percent_masked_low === undefined) return "";
  return `, between ${answer.percent_masked_low.toFixed(2)} and ${percent(answer.percent_masked_high)}`;
}

function percent(value) {
  return `${value.toFixed(2)} %`;
}

function row(instance, index) {
  const element = document.createElement("tr");
  element.tabIndex = 0;
  const name = document.createElement("th");
  name.scope = "row";
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = COLOURS[index % COLOURS.length];
  name.append(swatch, String(index + 1));
  element.append(name);
  const cells = [
    instance.score.toFixed(2),
    String(instance.area),
    instance.length_px.toFixed(1),
    instance.mean_width_px.toFixed(1),
    instance.max_width_px.toFixed(1),
    `${instance.orientation_deg.toFixed(0)}°`,
  ];
  for (const text of cells) element.insertCell().textContent = text;
  for (const kind of ["mouseenter", "focus"]) {
    element.addEventListener(kind, () => mark(instance.bbox));
  }
  for (const kind of ["mouseleave", "blur"]) {
    element.addEventListener(kind, () => { $("marker").hidden = true; });
  }
  return element;
}

function mark([x, y, width, height]) {
  const box = $("marker").style;
  box.left = `${(100 * x) / state.answer.width}%`;
  box.width = `${(100 * width) / state.answer.width}%`;
  box.top = `${(100 * y) / state.answer.height}%`;
  box.height = `${(100 * height) / state.answer.height}%`;
  $("marker").hidden = false;
}

function save(url, suffix, file = state.file) {
  const link = document.createElement("a");
  link.href = url;
  link.download = file.name.replace(/\.[^.]*$/, "") + suffix;
  link.click();
}

function saveBlob(blob, suffix, file) {
  const url = URL.createObjectURL(blob);
  save(url, suffix, file);
  URL.revokeObjectURL(url);
}

async function saveMask() {
  const file = state.file; // another may be chosen before the mask is here
  try {
    const query = { format: "mask", threshold: state.answer.threshold };
    saveBlob(await (await post(query)).blob(), "_mask.png", file);
  } catch (error) {
    say(error.message, true);
  }
}

function saveJson() {
  const { overlay, ...answer } = state.answer;
  saveBlob(new Blob([JSON.stringify(answer, null, 2)], { type: "application/json" }), ".json");
}

function listenForPhotos() {
  $("file").addEventListener("change", () => {
    choose($("file").files);
    $("file").value = "";  // choosing the same photo again is a change too
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    choose(event.dataTransfer.files);
  });
  $("input").addEventListener("error", () => {
    $("input").hidden = true;
    $("no-preview").hidden = false;
  });
}

function listenForControls() {
  let timer;
  $("threshold").addEventListener("input", () => {
    state.threshold = $("threshold").value;
    showThreshold(state.threshold);
    clearTimeout(timer);
    timer = setTimeout(predict, 150);
  });
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    predict();
  });
  $("save-overlay").addEventListener("click", () => save(state.answer.overlay, "_overlay.png"));
  $("save-mask").addEventListener("click", saveMask);
  $("save-json").addEventListener("click", saveJson);
}

listenForPhotos();
listenForControls();
