// The page: wires the form, the canvas, the layers and the server together.

import { getBlob, getJson, postJson, readToken } from "./api.js";
import { Canvas } from "./canvas.js";
import { Picture, layersOf, open } from "./document.js";
import { Given } from "./given.js";
import { Jobs, tell } from "./jobs.js";
import { LayerList } from "./layers.js";

const $ = (id) => document.getElementById(id);
const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));

const picture = new Picture();
const canvas = new Canvas($("canvas"), picture);
new LayerList(picture, canvas);
const jobs = new Jobs((id) => attempt(async () => picture.set(await open(id))));
const given = new Given(use);
window.studio = { picture, canvas }; // for a look inside, and for tests

picture.addEventListener("change", () => {
  $("empty").hidden = Boolean(picture.state);
  $("undo").disabled = !picture.past.length;
  $("redo").disabled = !picture.future.length;
  $("download").disabled = !picture.state;
});

/** Do something; what goes wrong is said. */
async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    tell(error.message, true);
    return null;
  }
}

/** What the form says of every drawing. */
function drawing() {
  return {
    steps: number("steps"), guidance_scale: number("guidance"), fast: $("fast").checked,
    seed: number("seed"), negative_prompt: $("negative").value || undefined,
  };
}

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const count = number("count") ?? 4;
  const body = {
    ...drawing(), prompt: $("prompt").value, count, width: number("width"), height: number("height"),
  };
  const flat = $("text-to-image").checked;
  if (flat && given.kind) {
    tell("A text-to-image pipeline takes no given picture; remove it.", true);
    return;
  }
  if (given.kind) body[given.kind] = given.id;
  if (flat) delete body.fast;
  const made = await jobs.run(flat ? "text-to-image" : "generate", body, count);
  if (made) await jobs.showCandidates(made);
});

$("count").addEventListener("input", nameButton);
function nameButton() {
  const words = ["", "one", "two", "three", "four", "five", "six", "seven", "eight"];
  $("generate").textContent = `Draw ${words[number("count") ?? 4] ?? ""}`;
}

/** A picture that was dropped, and what it is for. */
async function use(what, info) {
  if (what === "open" || (what === "layer" && !picture.state)) picture.set(await open(info.id));
  else if (what === "layer") {
    if (!info.layers.length) throw new Error("The picture has no transparency; give a cut-out.");
    for (const layer of await layersOf(info)) picture.add(layer);
  } else {
    const body = what === "decompose" ? { picture: info.id } : { prompt: $("prompt").value, image: info.id, seed: number("seed") };
    const made = await jobs.run(what === "decompose" ? "decompose" : "generate", body);
    if (made) picture.set(await open(made[0]));
  }
}

/** Keep the picture as it is on the page; gives its id. */
async function kept() {
  return (await postJson("/api/pictures/arrange", picture.arrangement())).id;
}

$("again").addEventListener("click", () => attempt(async () => {
  const { layer } = picture, index = picture.layers.indexOf(layer);
  const prompt = layer.prompt || $("prompt").value;
  const body = { ...drawing(), seed: undefined, picture: await kept(), layer: `#${index + 1}`, prompt: layer.prompt ? undefined : prompt };
  const made = await jobs.run("replace", body);
  if (!made) return;
  const fresh = (await open(made[0])).layers[index];
  // the other layers keep their own pixels and places
  const layers = picture.layers.map((one) => (one.key === layer.key
    ? { ...fresh, key: one.key, name: one.name, prompt } : one));
  picture.set({ ...picture.state, layers });
}));

$("more").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const prompt = $("more-prompt").value;
    const body = { ...drawing(), seed: undefined, picture: await kept(), prompt, at: $("more-at").value || undefined };
    const made = await jobs.run("add", body);
    if (!made) return;
    picture.add({ ...(await open(made[0])).layers.at(-1), prompt });
    $("more-prompt").value = "";
  });
});

$("download").addEventListener("click", () => attempt(async () => {
  const format = $("format").value;
  const blob = await getBlob(`/api/pictures/${await kept()}/file?format=${format}`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  const suffix = { sprites: "zip", parallax: "webp" }[format] ?? format;
  link.download = `${fileName()}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}));

/** A file's name from what was asked for. */
function fileName() {
  const words = ($("prompt").value || picture.layers[0]?.name || "picture").toLowerCase();
  return words.replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "picture";
}

$("undo").addEventListener("click", () => picture.undo());
$("redo").addEventListener("click", () => picture.redo());
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.target.matches("input, textarea")) return;
  const key = event.key.toLowerCase();
  if (key !== "z" && key !== "y") return;
  event.preventDefault();
  if (key === "y" || event.shiftKey) picture.redo();
  else picture.undo();
});

/** Say what the server is, once its model is there. */
async function connect() {
  const health = await attempt(() => getJson("/api/health"));
  if (!health) {
    $("server").textContent = "no server";
  } else if (health.model === "failed") {
    $("server").textContent = "no model";
    tell(health.error, true);
    return;
  } else if (health.model === "ready") {
    const model = await attempt(() => getJson("/api/model"));
    if (!model) return;
    $("server").textContent = `${model.name}, ${model.size} pixels, ${model.device}`;
    for (const id of ["width", "height"]) {
      $(id).placeholder = model.size;
      $(id).step = model.size_multiple;
      $(id).min = model.size_multiple * Math.ceil(16 / model.size_multiple);
    }
    $("steps").placeholder = model.steps;
    $("guidance").placeholder = model.guidance_scale;
    $("fast").disabled = !model.fast;
    const source = model.text_to_image;
    $("source").hidden = !source;
    if (source) $("source-name").textContent = `Draw with ${source.name}, then take apart`;
    return;
  } else {
    $("server").textContent = "the model is loading";
  }
  setTimeout(connect, 1000);
}

readToken();
nameButton();
connect();
