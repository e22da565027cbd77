// The picture on the page: a background and layers, lowest first, with undo.
//
// A layer names its pixels (picture, number) and says how they lie: x, y, w, h in pixels of the
// canvas, mirror, opacity 0..1, visible, blend. States are never changed, only replaced, so undo is a list.

import { bitmap, getJson } from "./api.js";

const MAX_STATES = 100;
let count = 0;

export class Picture extends EventTarget {
  state = null; // { background, size, layers }
  chosen = null; // key of a layer
  past = [];
  future = [];
  #merging = null;

  get layers() { return this.state?.layers ?? []; }
  get layer() { return this.layers.find((one) => one.key === this.chosen) ?? null; }

  /** Replace the state; changes of one `gesture` (a drag, a slider) are undone as one. */
  set(state, gesture = null) {
    if (this.state && !(gesture && gesture === this.#merging)) {
      this.past.push(this.state);
      if (this.past.length > MAX_STATES) this.past.shift();
    }
    this.#merging = gesture;
    this.future = [];
    this.#show(state);
  }

  endGesture() { this.#merging = null; }

  undo() { this.#step(this.past, this.future); }
  redo() { this.#step(this.future, this.past); }

  choose(key) {
    this.chosen = key;
    this.#merging = null;
    this.dispatchEvent(new Event("change"));
  }

  /** Change the chosen layer. */
  change(values, gesture = null) {
    if (!this.layer) return;
    const layers = this.layers.map((one) => (one.key === this.chosen ? { ...one, ...values } : one));
    this.set({ ...this.state, layers }, gesture);
  }

  /** Move the chosen layer up (1) or down (-1) in the order. */
  reorder(by) {
    const from = this.layers.indexOf(this.layer), to = from + by;
    if (from < 0 || to < 0 || to >= this.layers.length) return;
    const layers = [...this.layers];
    layers.splice(to, 0, ...layers.splice(from, 1));
    this.set({ ...this.state, layers });
  }

  remove() {
    if (this.layer) this.set({ ...this.state, layers: this.layers.filter((one) => one !== this.layer) });
  }

  add(layer) {
    this.set({ ...this.state, layers: [...this.layers, layer] });
    this.choose(layer.key);
  }

  /** What POST /api/pictures/arrange takes. */
  arrangement() {
    return {
      background: this.state.background,
      layers: this.layers.map((one) => ({
        picture: one.picture, layer: one.number, name: one.name, offset: [one.x, one.y],
        size: [one.w, one.h], mirror: one.mirror, opacity: one.opacity, visible: one.visible,
        blend_mode: one.blend,
      })),
    };
  }

  #step(from, to) {
    if (!from.length) return;
    to.push(this.state);
    this.#merging = null;
    this.#show(from.pop());
  }

  #show(state) {
    this.state = state;
    if (!this.layer) this.chosen = state.layers.at(-1)?.key ?? null;
    this.dispatchEvent(new Event("change"));
  }
}

/** The layers of a kept picture as states of layers, their pixels fetched. */
export async function layersOf(info) {
  await Promise.all(info.layers.map((_, number) => bitmap(info.id, number)));
  return info.layers.map((one, number) => ({
    key: ++count, picture: info.id, number, name: one.name, x: one.offset[0], y: one.offset[1],
    w: one.size[0], h: one.size[1], mirror: false, opacity: one.opacity, visible: one.visible,
    blend: one.blend_mode, prompt: one.metadata.prompt ?? (info.layers.length === 1 ? info.metadata.prompt : null) ?? null,
  }));
}

/** The state that shows a kept picture as it is. */
export async function open(id) {
  const info = await getJson(`/api/pictures/${id}`);
  const [layers] = await Promise.all([layersOf(info), bitmap(id, "background")]);
  return { background: id, size: info.size, layers };
}
