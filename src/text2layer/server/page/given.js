// Pictures that a person brings: dropped or chosen, and what they are for.

import { upload } from "./api.js";
import { tell } from "./jobs.js";

const $ = (id) => document.getElementById(id);
const NAMES = {
  foreground: "Foreground: the background is drawn.",
  background: "Background: a foreground is drawn on it.",
  reference: "Reference: something like it is drawn.",
};

export class Given {
  kind = null; // foreground, background or reference
  id = null;

  /** onUse is called with (what, picture's description) for all that is not part of the form. */
  constructor(onUse) {
    this.onUse = onUse;
    $("file").addEventListener("change", () => {
      if ($("file").files.length) this.take($("file").files[0]);
      $("file").value = "";
    });
    $("given-remove").addEventListener("click", () => this.clear());
    for (const name of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(name, (event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        document.body.classList.toggle("dropping", name === "dragover");
        if (name === "drop" && event.dataTransfer.files.length) this.take(event.dataTransfer.files[0]);
      });
    }
  }

  /** Ask what a file is for, and use it so. */
  async take(file) {
    $("role-name").textContent = file.name;
    const what = await ask();
    if (!what) return;
    tell(`Sending ${file.name}.`);
    try {
      const info = await upload(file);
      tell("");
      if (what in NAMES) this.#keep(what, info, file);
      else await this.onUse(what, info);
    } catch (error) {
      tell(error.message, true);
    }
  }

  clear() {
    this.kind = this.id = null;
    $("given").hidden = true;
    $("prompt").focus();
  }

  #keep(kind, info, file) {
    Object.assign(this, { kind, id: info.id });
    const flat = /\.(png|jpe?g|webp)$/i.test(file.name);
    $("given-picture").src = flat ? URL.createObjectURL(file) : "icon.svg";
    $("given-text").textContent = `${file.name}. ${NAMES[kind]}`;
    $("given").hidden = false;
    $("prompt").focus();
  }
}

/** Show the question; gives the answer's value, "" for none. */
function ask() {
  const dialog = $("role");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}
