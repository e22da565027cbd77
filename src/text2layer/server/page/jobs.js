// Jobs: asked for, followed, cancelled; candidates with their progress; what was made before.

import { follow, getBlob, getJson, postJson } from "./api.js";

const $ = (id) => document.getElementById(id);

/** Say something below the form; an error stands out. */
export function tell(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}

export class Jobs {
  current = null; // id of the job that the page waits for
  #busy = false;
  #unwanted = false; // cancelled before the server has said its id

  /** onPick is called with the id of a picture that a person chooses. */
  constructor(onPick) {
    this.onPick = onPick;
    $("cancel").addEventListener("click", () => this.#cancel());
    $("past").addEventListener("toggle", () => { if ($("past").open) this.showHistory(); });
  }

  /** Ask for a job and wait for it; gives the ids of its pictures, or null if there are none. */
  async run(kind, body, tiles = 0) {
    if (this.#busy) {
      tell("One thing at a time: wait for the job, or cancel it.", true);
      return null;
    }
    this.#setBusy(true);
    this.#unwanted = false;
    try {
      let job = await postJson(`/api/jobs/${kind}`, body);
      this.current = job.id;
      if (this.#unwanted) await this.#cancel();
      if (tiles) this.#wait(tiles);
      let previews = 0;
      job = await follow(job.id, (now) => {
        tell(said(now));
        if (now.steps) $("progress").value = now.step / now.steps;
        if (tiles && now.previews > previews) {
          previews = now.previews;
          this.#preview(now.id, tiles);
        }
      });
      if (job.state === "done") {
        tell(job.request.seed == null ? "Done." : `Done, seed ${job.request.seed}.`);
        if ($("past").open) this.showHistory();
        return job.pictures;
      }
      tell(job.error ?? "Cancelled.", job.state === "failed");
    } catch (error) {
      tell(error.message, true);
    } finally {
      this.current = null;
      this.#setBusy(false);
    }
    if (tiles) $("candidates").replaceChildren();
    return null;
  }

  async #cancel() {
    this.#unwanted = true;
    if (this.current) await postJson(`/api/jobs/${this.current}/cancel`).catch((error) => tell(error.message, true));
  }

  /** Show finished candidates; the first one is chosen. */
  async showCandidates(pictures) {
    const tiles = await Promise.all(pictures.map((id, index) => this.#tile(id, `Candidate ${index + 1}`)));
    $("candidates").replaceChildren(...tiles);
    tiles[0]?.click();
  }

  async showHistory() {
    try {
      const jobs = (await getJson("/api/jobs?limit=24")).filter((job) => job.pictures.length);
      const rows = await Promise.all(jobs.map(async (job) => {
        const row = document.createElement("li");
        row.append(await this.#tile(job.pictures[0], job.request.prompt || job.kind));
        return row;
      }));
      $("history").replaceChildren(...rows);
    } catch (error) {
      tell(error.message, true);
    }
  }

  async #tile(id, label) {
    const tile = empty();
    tile.setAttribute("aria-label", label);
    tile.setAttribute("aria-pressed", "false");
    tile.title = label;
    try {
      tile.firstChild.src = URL.createObjectURL(await getBlob(`/api/pictures/${id}/layers/composite`));
      tile.firstChild.onload = (event) => URL.revokeObjectURL(event.target.src);
    } catch {
      tile.disabled = true; // it was kept long enough
    }
    tile.addEventListener("click", () => {
      for (const one of document.querySelectorAll(".tile")) one.setAttribute("aria-pressed", one === tile);
      this.onPick(id);
    });
    return tile;
  }

  #wait(tiles) {
    $("candidates").replaceChildren(...Array.from({ length: tiles }, (_, index) => {
      const tile = empty();
      tile.classList.add("waiting");
      tile.disabled = true;
      tile.setAttribute("aria-label", `Candidate ${index + 1} is being drawn`);
      return tile;
    }));
  }

  async #preview(id, tiles) {
    for (let index = 0; index < tiles; index++) {
      const tile = $("candidates").children[index];
      try {
        const url = URL.createObjectURL(await getBlob(`/api/jobs/${id}/preview/${index}`));
        if (!tile?.classList.contains("waiting")) return;
        const old = tile.firstChild.src;
        tile.firstChild.src = url;
        if (old) URL.revokeObjectURL(old);
      } catch {
        return; // the job has ended meanwhile
      }
    }
  }

  #setBusy(busy) {
    this.#busy = busy;
    $("cancel").hidden = $("progress").hidden = !busy;
    $("progress").value = 0;
    for (const button of document.querySelectorAll("#generate, #again, #more button")) button.disabled = busy;
  }
}

function empty() {
  const tile = document.createElement("button");
  tile.type = "button";
  tile.className = "tile";
  const picture = document.createElement("img");
  picture.alt = "";
  tile.append(picture);
  return tile;
}

function said(job) {
  if (job.state === "queued") return job.position ? `Waiting, ${job.position} before it.` : "Waiting.";
  if (job.state === "running") return job.steps ? `Drawing, step ${job.step} of ${job.steps}.` : "Working.";
  return "";
}
