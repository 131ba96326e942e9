"use strict";

const $ = (id) => document.getElementById(id);

// The model that is shown: its metadata, its configuration, and the way in which it is asked.
let model = null;
let running = null;

function show(id, isShown = true) {
  $(id).hidden = !isShown;
}

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

async function fetched(path, options = {}) {
  const key = $("key").value.trim();
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const text = await answer.text();
  let reason = answer.statusText;
  try {
    reason = JSON.parse(text).error ?? reason;
  } catch {
    // A proxy's words rather than the server's.
  }
  throw new Error(`${answer.status}: ${reason}`);
}

function refuse(error) {
  const isOurs = error.name !== "AbortError";
  $("refused").textContent = isOurs ? error.message : "";
  show("refused", isOurs);
}

// The models

async function list() {
  const index = await fetched("v2/repository/index", { method: "POST", body: '{"ready": true}' });
  const names = [...new Set((await index.json()).map((entry) => entry.name))];
  $("models").replaceChildren(
    ...names.map((name) => {
      const link = element("a", name);
      link.href = `#${encodeURIComponent(name)}`;
      return link;
    }),
  );
  return names;
}

async function start() {
  show("refused", false);
  let names = [];
  try {
    names = await list();
    show("choose", false);
    if (!names.length) $("about").textContent = "No model is ready.";
  } catch (error) {
    // Whoever may not see the index may still ask a model of a name that he knows.
    refuse(error);
    show("choose");
  }
  if (!location.hash && names.length) location.hash = encodeURIComponent(names[0]);
  else if (location.hash) await open();
}

function named() {
  const text = location.hash.slice(1);
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // as somebody typed it
  }
}

async function open() {
  const name = named();
  running?.abort();
  for (const id of ["refused", "ask", "answer", "how", "picture", "text", "fields"]) show(id, false);
  for (const link of $("models").children) {
    if (link.textContent === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  $("name").textContent = name;
  $("about").textContent = "";
  try {
    const path = `v2/models/${encodeURIComponent(name)}`;
    const [metadata, config] = await Promise.all(
      [path, `${path}/config`].map(async (each) => (await fetched(each)).json()),
    );
    if (name !== named()) return; // another one was chosen meanwhile
    const parameters = Object.fromEntries(
      Object.entries(config.parameters ?? {}).map(([key, value]) => [key, value.string_value]),
    );
    model = { name, metadata, config, parameters };
    model.way = WAYS.find((way) => way.fits(model));
    const tensors = (all) => all.map((one) => `${one.name} ${one.datatype} [${one.shape}]`).join(", ");
    $("about").textContent = `${tensors(metadata.inputs)} → ${tensors(metadata.outputs)}`;
    $("send").textContent = model.way.verb;
    model.way.prepare(model);
    show("ask");
  } catch (error) {
    if (name === named()) refuse(error);
  }
}

// What a model takes

const IDS = "input_ids"; // what models of texts have in place of the text

function dims() {
  return model.config.input[0].dims.map(Number);
}

function size(all) {
  return all.reduce((product, dim) => product * Math.max(dim, 1), 1);
}

function nested(all, value) {
  return all.length ? Array.from({ length: Math.max(all[0], 1) }, () => nested(all.slice(1), value)) : value;
}

function box(value, isProse = false) {
  $("text").value = value;
  $("text").className = isProse ? "prose" : "";
  show("text");
}

function field(name, value, options = {}) {
  const label = element("label", name);
  const input = Object.assign(element("input"), { type: "number", step: "any", value, ...options });
  input.dataset.name = name;
  label.append(input);
  return label;
}

function ask(...fields) {
  $("fields").replaceChildren(...fields);
  show("fields");
}

function values() {
  const filled = [...$("fields").querySelectorAll("input")].filter((input) => input.value !== "");
  return Object.fromEntries(filled.map((input) => [input.dataset.name, Number(input.value)]));
}

function predict(body, type, suffix = "") {
  return { path: `predict/${encodeURIComponent(model.name)}${suffix}`, body, type };
}

function asJson(document) {
  return JSON.stringify(document);
}

const WAYS = [
  {
    verb: "Write",
    fits: ({ config }) => config.backend === "generation",
    prepare: () => {
      box("ROMEO:\n", true);
      ask(field("max_tokens", 200, { min: 1, step: 1 }), field("temperature", 0.8, { min: 0 }),
        field("top_k", "", { min: 1, step: 1 }), field("seed", "", { min: 0, step: 1 }));
    },
    compose: () => ({
      path: `v2/models/${encodeURIComponent(model.name)}/generate_stream`,
      body: asJson({ text_input: $("text").value, ...values() }),
      type: "application/json",
      isStream: true,
    }),
  },
  {
    verb: "Predict",
    fits: ({ metadata }) => metadata.inputs.some((input) => input.name === IDS),
    prepare: ({ metadata, parameters }) => {
      box("", true);
      const isTranslator = parameters.prediction === "translation";
      $("text").placeholder = isTranslator ? "A sentence to translate" : "A text";
      if (metadata.inputs.some((input) => input.name === "beams")) {
        ask(field("beams", 4, { min: 1, max: 8, step: 1 }));
      }
    },
    compose: () => {
      const { beams } = $("fields").hidden ? {} : values();
      return predict(asJson({ text: $("text").value }), "application/json", beams ? `?beams=${beams}` : "");
    },
  },
  {
    verb: "Draw",
    fits: ({ parameters }) => "latent" in parameters,
    prepare: ({ config }) => {
      const most = Math.max(1, config.max_batch_size ?? 0);
      ask(field("seed", 7, { min: 0, step: 1 }), field("pictures", Math.min(16, most), { min: 1, max: most, step: 1 }));
    },
    compose: () => predict(asJson(values()), "application/json"),
  },
  {
    verb: "Predict",
    fits: ({ metadata, config }) => metadata.inputs.length === 1 && pixels(config.input[0]) !== null,
    prepare: ({ config }) => {
      show("picture");
      canvas(pixels(config.input[0]));
    },
    compose: async () => {
      const [file] = $("file").files;
      if (file) return predict(file, file.type || "image/png");
      return predict(await drawing(), "image/png");
    },
  },
  {
    verb: "Predict",
    fits: ({ parameters, config }) => "columns" in parameters && config.input[0].dims.length === 1,
    prepare: ({ parameters }) => ask(...parameters.columns.split(",").map((name) => field(name.trim(), 0))),
    compose: () => predict(asJson(values()), "application/json"),
  },
  {
    verb: "Predict",
    fits: ({ parameters, config }) => "columns" in parameters && config.input[0].dims.length === 2,
    prepare: ({ parameters }) => {
      const [rows] = dims();
      const columns = parameters.columns.split(",");
      const zeros = columns.map(() => "0").join(",");
      box([columns.join(","), ...Array.from({ length: Math.max(rows, 1) }, () => zeros)].join("\n"));
    },
    compose: () => predict($("text").value, "text/csv"),
  },
  {
    verb: "Predict",
    fits: ({ metadata }) => metadata.inputs.length === 1 && metadata.inputs[0].datatype !== "BYTES" && size(dims()) <= 4096,
    prepare: () => box(asJson(nested(dims(), 0))),
    compose: () => predict($("text").value, "application/json"),
  },
  {
    // Whatever else there is: the request itself, to be filled in.
    verb: "Infer",
    fits: () => true,
    prepare: ({ metadata }) => {
      const inputs = metadata.inputs.map(({ name, datatype, shape }) => {
        const concrete = shape.map((dim) => Math.max(Number(dim), 1));
        const zero = { BYTES: "", BOOL: false }[datatype] ?? 0;
        const data = size(concrete) <= 4096 ? Array(size(concrete)).fill(zero) : [];
        return { name, datatype, shape: concrete, data };
      });
      box(asJson({ inputs }));
    },
    compose: () => ({
      path: `v2/models/${encodeURIComponent(model.name)}/infer`,
      body: $("text").value,
      type: "application/json",
    }),
  },
];

// Pictures

// Width, height and channels of an input that is a picture; null of others.
function pixels(input) {
  const all = input.dims.map(Number);
  if (all.length !== 3) return null;
  const isLast = input.format === "FORMAT_NHWC" || (input.format !== "FORMAT_NCHW" && ![1, 3].includes(all[0]));
  const [channels, height, width] = isLast ? [all[2], all[0], all[1]] : all;
  return [1, 3].includes(channels) && height > 0 && width > 0 ? { width, height, channels } : null;
}

// Small grey ones can be drawn: white on black, as digits are written in MNIST.
function canvas({ width, height, channels }) {
  const isDrawn = channels === 1 && Math.max(width, height) <= 64;
  show("canvas", isDrawn);
  show("clear", isDrawn);
  show("chosen", false);
  $("file").value = "";
  const scale = Math.ceil(280 / width);
  Object.assign($("canvas"), { width: width * scale, height: height * scale });
  $("canvas").dataset.width = width;
  $("canvas").dataset.height = height;
  clear();
}

function clear() {
  const pen = $("canvas").getContext("2d");
  pen.fillStyle = "black";
  pen.fillRect(0, 0, $("canvas").width, $("canvas").height);
}

async function drawing() {
  if ($("canvas").hidden) throw new Error("choose a picture first");
  const small = Object.assign(element("canvas"), {
    width: $("canvas").dataset.width,
    height: $("canvas").dataset.height,
  });
  const pen = small.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage($("canvas"), 0, 0, small.width, small.height);
  return new Promise((resolve) => small.toBlob(resolve, "image/png"));
}

let last = null;

function stroke(event) {
  const area = $("canvas");
  const place = area.getBoundingClientRect();
  const scale = area.width / place.width;
  const here = [(event.clientX - place.left) * scale, (event.clientY - place.top) * scale];
  const pen = area.getContext("2d");
  Object.assign(pen, { strokeStyle: "white", lineWidth: area.width / 14, lineCap: "round", lineJoin: "round" });
  pen.beginPath();
  pen.moveTo(...(last ?? here));
  pen.lineTo(...here);
  pen.stroke();
  last = here;
}

// Answers

async function send() {
  running?.abort();
  const mine = (running = new AbortController());
  show("refused", false);
  try {
    const request = await model.way.compose();
    const begun = performance.now();
    const answer = await fetched(request.path, {
      method: "POST",
      body: request.body,
      headers: { "Content-Type": request.type },
      signal: mine.signal,
    });
    if (request.isStream) await stream(answer);
    else await result(answer);
    const timing = answer.headers.get("Server-Timing");
    const elapsed = `${(performance.now() - begun).toFixed(1)} ms in the browser`;
    $("times").textContent = timing ? `${elapsed}; in the server: ${timing}` : elapsed;
    $("curl").textContent = curl(request);
    show("how");
  } catch (error) {
    if (running === mine) refuse(error);
  } finally {
    if (running === mine) show("stop", false);
  }
}

async function result(answer) {
  const type = answer.headers.get("Content-Type");
  const place = $("result");
  if (type.startsWith("image/")) {
    const picture = element("img");
    picture.alt = "The model's answer";
    picture.src = URL.createObjectURL(await answer.blob());
    picture.onload = () => {
      const fits = Math.min(900 / picture.naturalWidth, 224 / picture.naturalHeight);
      picture.width = picture.naturalWidth * Math.max(1, Math.floor(fits));
      URL.revokeObjectURL(picture.src);
    };
    place.replaceChildren(picture);
  } else {
    const document = await answer.json();
    place.replaceChildren(...(document.predictions ?? []).flatMap(prediction), whole(document));
  }
  show("answer");
}

function prediction(one) {
  if (one.translation !== undefined) return [element("p", one.translation, "big")];
  return (one.classes ?? []).map(({ label, probability }) => {
    const row = element("div", "", "class");
    const bar = element("div");
    bar.style.width = `${100 * probability}%`;
    row.append(element("span", label), bar, element("output", `${(100 * probability).toFixed(1)} %`));
    return row;
  });
}

function whole(document) {
  const details = element("details");
  details.open = !document.predictions?.[0]?.classes && !document.predictions?.[0]?.translation;
  details.append(element("summary", "The answer as JSON"), element("pre", JSON.stringify(document, null, 1)));
  return details;
}

// Server-sent events: `data: {...}` and an empty line.
async function stream(answer) {
  const written = element("p", $("text").value, "big");
  $("result").replaceChildren(written);
  show("answer");
  show("stop");
  let rest = "";
  for await (const piece of pieces(answer.body.pipeThrough(new TextDecoderStream()))) {
    const events = (rest + piece).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const told = JSON.parse(event.replace(/^data: /, ""));
      if (told.error) throw new Error(told.error);
      written.textContent += told.text_output ?? "";
    }
  }
}

async function* pieces(readable) {
  const reader = readable.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

function curl({ path, body, type, isStream }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const data = typeof body === "string" ? `-d ${quoted(body)}` : "--data-binary @picture.png";
  const flags = isStream ? "-sN" : "-s";
  const key = $("key").value && ` -H 'Authorization: Bearer KEY'`;
  const output = model.parameters.prediction === "image" ? " -o answer.png" : "";
  return `curl ${flags} ${quoted(new URL(path, location.href).href)} -H 'Content-Type: ${type}'${key} ${data}${output}`;
}

// Hands

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("choose").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent($("typed").value.trim());
});
$("stop").addEventListener("click", () => running?.abort());
$("key").addEventListener("change", start);
$("clear").addEventListener("click", clear);
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  show("chosen", Boolean(file));
  if (file) $("chosen").src = URL.createObjectURL(file);
});
$("canvas").addEventListener("pointerdown", (event) => {
  $("canvas").setPointerCapture(event.pointerId);
  $("file").value = "";
  show("chosen", false);
  last = null;
  stroke(event);
});
$("canvas").addEventListener("pointermove", (event) => event.buttons && stroke(event));
// A drawing is looked at as soon as the pen is lifted.
$("canvas").addEventListener("pointerup", send);
window.addEventListener("hashchange", open);
start();
