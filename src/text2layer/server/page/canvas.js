// The canvas: layers laid over one another as the files say, dragged, scaled, moved by keys.

import { bitmap } from "./api.js";

const HANDLE = 9; // pixels of the screen
const SNAP = 6; // pixels of the screen within which an edge or the middle is caught
const SEEN = 20; // alpha above which a pixel can be caught with the pointer
const MAX_COPY = 4096; // pixels a side of a layer's copy in the size of the screen
const OPERATIONS = { normal: "source-over", add: "lighter" }; // the other blend modes have the canvas's names
const LEAST = 8; // pixels that a layer's side keeps

export class Canvas {
  #pixels = new Map(); // "picture/number" -> { bitmap, alpha, box }, null while it is fetched
  #groups = {}; // layers that are not moved now, drawn once: { below, above }
  #drag = null;
  #guides = [];
  #asked = false;
  frames = 0; // drawn so far, for the test of speed
  showBackground = true;

  constructor(element, picture) {
    this.element = element;
    this.picture = picture;
    this.context = element.getContext("2d");
    picture.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, () => this.#up());
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Draw before the next frame, once however often it is asked for. */
  draw() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#paint();
    });
  }

  /** Where the picture lies on the element: scale and corner, in CSS pixels. */
  get view() {
    const { clientWidth: width, clientHeight: height } = this.element;
    const [w, h] = this.picture.state.size;
    const scale = Math.min((width * 0.94) / w, (height * 0.94) / h);
    return { scale, left: (width - w * scale) / 2, top: (height - h * scale) / 2 };
  }

  #source(picture, part) {
    const key = `${picture}/${part}`;
    if (!this.#pixels.has(key)) {
      this.#pixels.set(key, null);
      bitmap(picture, part).then((made) => {
        this.#pixels.set(key, { bitmap: made, ...(part === "background" ? {} : seen(made)) });
        this.draw();
      }, () => this.#pixels.delete(key));
    }
    return this.#pixels.get(key);
  }

  #paint() {
    const { element, context } = this, { state } = this.picture;
    const density = window.devicePixelRatio || 1;
    const width = Math.round(element.clientWidth * density), height = Math.round(element.clientHeight * density);
    if (element.width !== width || element.height !== height) Object.assign(element, { width, height });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!state) return;
    this.frames += 1;
    const { scale, left, top } = this.view;
    const at = state.layers.indexOf(this.picture.layer);
    const below = at < 0 ? state.layers : state.layers.slice(0, at);
    context.drawImage(this.#group("below", below, width, height, true), 0, 0);
    this.#place(context, density);
    if (at >= 0) {
      if (state.layers[at].visible) this.#layer(context, state.layers[at]);
      const above = state.layers.slice(at + 1);
      if (above.some((layer) => layer.visible && layer.blend !== "normal")) { // it needs what is below it
        for (const layer of above) if (layer.visible) this.#layer(context, layer);
      } else {
        context.setTransform(1, 0, 0, 1, 0, 0);
        context.drawImage(this.#group("above", above, width, height, false), 0, 0);
      }
    }
    context.restore();
    context.save();
    context.setTransform(density * scale, 0, 0, density * scale, density * left, density * top);
    this.#marks(scale);
    context.restore();
  }

  /** Let a context draw in pixels of the picture, and nothing outside of it. */
  #place(context, density) {
    const { scale, left, top } = this.view, [w, h] = this.picture.state.size;
    context.save();
    context.setTransform(density * scale, 0, 0, density * scale, density * left, density * top);
    context.beginPath();
    context.rect(0, 0, w, h);
    context.clip();
    context.imageSmoothingQuality = "high";
  }

  /** Layers laid over one another, and the ground below them; the same ones are drawn once. */
  #group(name, layers, width, height, withGround) {
    const { background, size } = this.picture.state, { scale } = this.view;
    const ground = withGround ? this.#source(background, "background") : null;
    const dark = getComputedStyle(document.documentElement).getPropertyValue("--dark");
    const sources = layers.map((layer) => this.#source(layer.picture, layer.number));
    const key = [width, height, scale, ground, this.showBackground, dark, ...layers, ...sources];
    const old = this.#groups[name];
    if (old?.key.length === key.length && key.every((part, index) => part === old.key[index])) return old.canvas;
    const canvas = new OffscreenCanvas(Math.max(width, 1), Math.max(height, 1)), context = canvas.getContext("2d");
    this.#place(context, width / this.element.clientWidth);
    if (withGround) checkers(context, ...size, 10 / scale);
    if (ground && this.showBackground) context.drawImage(ground.bitmap, 0, 0, ...size);
    for (const layer of layers) if (layer.visible) this.#layer(context, layer);
    this.#groups[name] = { key, canvas };
    return canvas;
  }

  /** Draw a layer at whole pixels of the screen, from a copy of that size, which a drag keeps. */
  #layer(context, layer) {
    const source = this.#source(layer.picture, layer.number);
    if (!source) return;
    const { a: factor, e: left, f: top } = context.getTransform();
    const wide = Math.max(Math.round(layer.w * factor), 1), high = Math.max(Math.round(layer.h * factor), 1);
    if (Math.max(wide, high) <= MAX_COPY && (source.copy?.width !== wide || source.copy.height !== high)) {
      source.copy = new OffscreenCanvas(wide, high);
      const small = source.copy.getContext("2d");
      small.imageSmoothingQuality = "high";
      small.drawImage(source.bitmap, 0, 0, wide, high);
    }
    context.save();
    context.globalAlpha = layer.opacity;
    context.globalCompositeOperation = OPERATIONS[layer.blend] ?? layer.blend;
    context.setTransform(1, 0, 0, 1, Math.round(left + layer.x * factor), Math.round(top + layer.y * factor));
    if (layer.mirror) context.transform(-1, 0, 0, 1, wide, 0);
    if (Math.max(wide, high) <= MAX_COPY) context.drawImage(source.copy, 0, 0);
    else context.drawImage(source.bitmap, 0, 0, wide, high);
    context.restore();
  }

  #marks(scale) {
    const { context } = this, layer = this.picture.layer;
    const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    context.strokeStyle = context.fillStyle = accent;
    context.lineWidth = 1.5 / scale;
    for (const [axis, at] of this.#guides) {
      const [w, h] = this.picture.state.size;
      context.strokeRect(axis === "x" ? at : 0, axis === "x" ? 0 : at, axis === "x" ? 0 : w, axis === "x" ? h : 0);
    }
    if (!layer) return;
    context.setLineDash(layer.visible ? [] : [5 / scale, 4 / scale]);
    const box = this.#box(layer);
    context.strokeRect(box.x, box.y, box.w, box.h);
    context.setLineDash([]);
    const side = HANDLE / scale;
    for (const [x, y] of corners(box)) context.fillRect(x - side / 2, y - side / 2, side, side);
  }

  /** Where the canvas shows something of a layer: its box without transparent borders. */
  #box(layer) {
    const source = this.#source(layer.picture, layer.number);
    if (!source?.box) return layer;
    const across = layer.w / source.bitmap.width, down = layer.h / source.bitmap.height;
    const { x, y, w, h } = source.box;
    const left = layer.mirror ? source.bitmap.width - x - w : x;
    return { x: layer.x + left * across, y: layer.y + y * down, w: w * across, h: h * down };
  }

  #point(event) {
    const box = this.element.getBoundingClientRect(), { scale, left, top } = this.view;
    return [(event.clientX - box.left - left) / scale, (event.clientY - box.top - top) / scale];
  }

  #down(event) {
    if (!this.picture.state || event.button !== 0) return;
    const [x, y] = this.#point(event), near = (HANDLE + 4) / this.view.scale;
    const chosen = this.picture.layer;
    const corner = chosen ? corners(this.#box(chosen)).findIndex(([cx, cy]) => Math.hypot(cx - x, cy - y) < near) : -1;
    if (corner < 0) {
      const hit = [...this.picture.layers].reverse().find((layer) => layer.visible && this.#covers(layer, x, y));
      if (!hit) return;
      if (hit !== chosen) this.picture.choose(hit.key);
    }
    this.element.setPointerCapture(event.pointerId);
    this.#drag = { x, y, corner, start: this.picture.layer, gesture: Symbol("drag") };
  }

  #move(event) {
    if (!this.#drag) return;
    const [x, y] = this.#point(event), { start, corner, gesture } = this.#drag;
    const dx = x - this.#drag.x, dy = y - this.#drag.y;
    if (!dx && !dy) return;
    const to = corner < 0 ? this.#moved(start, dx, dy, !event.altKey) : scaled(start, this.#box(start), corner, dx, dy);
    this.picture.change(to, gesture);
  }

  #up() {
    this.#drag = null;
    this.#guides = [];
    this.picture.endGesture();
    this.draw();
  }

  /** A layer moved by so much, caught by the edges and the middle of the canvas. */
  #moved(layer, dx, dy, snap) {
    const [w, h] = this.picture.state.size, reach = SNAP / this.view.scale;
    const to = { x: Math.round(layer.x + dx), y: Math.round(layer.y + dy) };
    this.#guides = [];
    if (!snap) return to;
    const box = this.#box({ ...layer, ...to });
    for (const [axis, at, side, whole] of [["x", box.x, box.w, w], ["y", box.y, box.h, h]]) {
      const lines = [[0, 0], [whole / 2, (whole - side) / 2], [whole, whole - side]];
      const caught = lines.find(([, want]) => Math.abs(at - want) <= reach);
      if (!caught) continue;
      to[axis] = Math.round(to[axis] + caught[1] - at);
      this.#guides.push([axis, caught[0]]);
    }
    return to;
  }

  /** Whether a layer shows something at a point of the canvas. */
  #covers(layer, x, y) {
    if (x < layer.x || y < layer.y || x >= layer.x + layer.w || y >= layer.y + layer.h) return false;
    const source = this.#source(layer.picture, layer.number);
    if (!source) return false;
    const { width, height } = source.bitmap;
    let column = Math.floor(((x - layer.x) / layer.w) * width);
    if (layer.mirror) column = width - 1 - column;
    return source.alpha[Math.floor(((y - layer.y) / layer.h) * height) * width + column] > SEEN;
  }

  #key(event) {
    const layer = this.picture.layer, step = event.shiftKey ? 10 : 1;
    if (!layer || event.ctrlKey || event.metaKey) return;
    const act = {
      ArrowLeft: () => this.picture.change({ x: layer.x - step }, "keys"),
      ArrowRight: () => this.picture.change({ x: layer.x + step }, "keys"),
      ArrowUp: () => this.picture.change({ y: layer.y - step }, "keys"),
      ArrowDown: () => this.picture.change({ y: layer.y + step }, "keys"),
      "+": () => this.picture.change(grown(layer, 1.05), "size"),
      "=": () => this.picture.change(grown(layer, 1.05), "size"),
      "-": () => this.picture.change(grown(layer, 1 / 1.05), "size"),
      "[": () => this.picture.reorder(-1),
      "]": () => this.picture.reorder(1),
      m: () => this.picture.change({ mirror: !layer.mirror }),
      h: () => this.picture.change({ visible: !layer.visible }),
      Delete: () => this.picture.remove(),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}

function checkers(context, w, h, side) {
  const style = getComputedStyle(document.documentElement);
  context.fillStyle = style.getPropertyValue("--light");
  context.fillRect(0, 0, w, h);
  context.fillStyle = style.getPropertyValue("--dark");
  for (let row = 0; row * side < h; row++) {
    for (let column = row % 2; column * side < w; column += 2) {
      context.fillRect(column * side, row * side, side, side);
    }
  }
}

function corners({ x, y, w, h }) {
  return [[x, y], [x + w, y], [x, y + h], [x + w, y + h]];
}

/** A layer, the corner of whose `box` was dragged; its shape and the opposite corner stay. */
function scaled(layer, box, corner, dx, dy) {
  const right = corner % 2 === 1, bottom = corner >= 2;
  const factor = Math.max(
    (box.w + (right ? dx : -dx)) / box.w, (box.h + (bottom ? dy : -dy)) / box.h,
    LEAST / Math.min(box.w, box.h),
  );
  const w = Math.max(Math.round(layer.w * factor), 1), h = Math.max(Math.round(layer.h * factor), 1);
  const still = [right ? box.x : box.x + box.w, bottom ? box.y : box.y + box.h];
  return {
    w, h, x: Math.round(still[0] - ((still[0] - layer.x) * w) / layer.w),
    y: Math.round(still[1] - ((still[1] - layer.y) * h) / layer.h),
  };
}

/** A layer made larger or smaller about its middle. */
function grown(layer, factor) {
  const w = Math.max(Math.round(layer.w * factor), 1), h = Math.max(Math.round(layer.h * factor), 1);
  return { w, h, x: layer.x + Math.round((layer.w - w) / 2), y: layer.y + Math.round((layer.h - h) / 2) };
}

/** A bitmap's alpha, a byte a pixel, and the box of what can be seen of it. */
function seen(bitmap) {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const alpha = new Uint8Array(width * height);
  let left = width, top = height, right = 0, bottom = 0;
  for (let y = 0, index = 0; y < height; y++) {
    for (let x = 0; x < width; x++, index++) {
      alpha[index] = data[4 * index + 3];
      if (alpha[index] <= SEEN) continue;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = y + 1;
    }
  }
  return { alpha, box: right ? { x: left, y: top, w: right - left, h: bottom - top } : null };
}
