// The list of layers, top first, and the fields of the chosen one.

import { bitmap } from "./api.js";

const $ = (id) => document.getElementById(id);

export class LayerList {
  constructor(picture, canvas) {
    this.picture = picture;
    this.canvas = canvas;
    picture.addEventListener("change", () => this.show());
    $("name").addEventListener("change", () => {
      const name = $("name").value.trim();
      if (name) picture.change({ name });
      else this.show();
    });
    $("opacity").addEventListener("input", () => picture.change({ opacity: $("opacity").value / 100 }, "opacity"));
    $("opacity").addEventListener("change", () => picture.endGesture());
    $("blend").addEventListener("change", () => picture.change({ blend: $("blend").value }));
    $("raise").addEventListener("click", () => picture.reorder(1));
    $("lower").addEventListener("click", () => picture.reorder(-1));
    $("mirror").addEventListener("click", () => picture.change({ mirror: !picture.layer.mirror }));
    $("remove").addEventListener("click", () => picture.remove());
  }

  /** Show the state; rows are made anew only where they changed, so that focus stays. */
  show() {
    const { picture } = this, list = $("layers");
    const rows = [...picture.layers].reverse().map((layer) => ({ ...layer, chosen: layer.key === picture.chosen }));
    if (picture.state) {
      rows.push({
        key: "ground", name: "Background", picture: picture.state.background, number: "background",
        visible: this.canvas.showBackground, ground: true,
      });
    }
    const old = new Map([...list.children].map((row) => [row.dataset.key, row]));
    const now = rows.map((layer) => {
      const wanted = JSON.stringify([layer.name, layer.visible, layer.chosen, layer.picture, layer.number]);
      const row = old.get(String(layer.key));
      return row?.dataset.shown === wanted ? row : this.#row(layer, wanted, row);
    });
    const same = now.length === list.children.length && now.every((row, index) => row === list.children[index]);
    if (!same) list.replaceChildren(...now); // a drag leaves the list alone
    const layer = picture.layer, index = picture.layers.indexOf(layer);
    $("chosen").hidden = !layer;
    $("more").hidden = !picture.state;
    if (!layer) return;
    if (document.activeElement !== $("name")) $("name").value = layer.name;
    $("opacity").value = Math.round(layer.opacity * 100);
    $("blend").value = layer.blend;
    $("raise").disabled = index === picture.layers.length - 1;
    $("lower").disabled = index === 0;
  }

  #row(layer, wanted, old) {
    const focused = old?.contains(document.activeElement) ? document.activeElement.className : null;
    const row = document.createElement("li");
    row.dataset.key = layer.key;
    row.dataset.shown = wanted;
    row.classList.toggle("chosen", Boolean(layer.chosen));
    const eye = button("eye", layer.visible ? "●" : "○", () => this.#toggle(layer));
    eye.setAttribute("aria-pressed", layer.visible);
    eye.setAttribute("aria-label", `Show ${layer.name}`);
    const thumb = document.createElement("canvas");
    thumb.width = thumb.height = 76;
    thumb.setAttribute("aria-hidden", "true");
    bitmap(layer.picture, layer.number).then((made) => fit(thumb, made), () => {});
    const pick = button("pick", layer.name, () => { if (!layer.ground) this.picture.choose(layer.key); });
    pick.classList.toggle("off", !layer.visible);
    if (layer.ground) pick.disabled = true;
    else pick.setAttribute("aria-pressed", Boolean(layer.chosen));
    row.append(eye, thumb, pick);
    if (focused) queueMicrotask(() => row.querySelector(`.${focused.split(" ")[0]}`)?.focus());
    return row;
  }

  #toggle(layer) {
    if (layer.ground) { // of the view alone: files have no hidden background
      this.canvas.showBackground = !this.canvas.showBackground;
      this.canvas.draw();
      this.show();
      return;
    }
    this.picture.choose(layer.key);
    this.picture.change({ visible: !layer.visible });
  }
}

function button(kind, text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.textContent = text; // never HTML: names are what people and files say
  made.addEventListener("click", act);
  return made;
}

/** Draw a bitmap into a small canvas, whole and in the middle. */
function fit(canvas, made) {
  const scale = Math.min(canvas.width / made.width, canvas.height / made.height);
  const w = made.width * scale, h = made.height * scale;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(made, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
}
