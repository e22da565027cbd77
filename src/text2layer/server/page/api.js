// The server's API: JSON in and out, events as they come, pictures as bitmaps.

const TOKEN = "text2layer token";
const bitmaps = new Map(); // "picture/part" -> promise of an ImageBitmap

/** An error that the server told in one sentence. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Take the token out of the address (#token=...), where it is neither sent nor logged. */
export function readToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, "", location.pathname);
  }
}

async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new ServerError("The server does not answer; is text2layer serve still running?", 0);
  }
  if (answer.ok) return answer;
  let told = `The server answered ${answer.status}.`;
  try {
    told = (await answer.json()).error ?? told;
  } catch { /* no JSON: the status has to do */ }
  throw new ServerError(told, answer.status);
}

export async function getJson(path) {
  return (await ask(path)).json();
}

export async function postJson(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** Keep a file on the server; gives the picture's description. */
export async function upload(file) {
  const headers = { "Content-Type": "application/octet-stream" };
  return (await ask("/api/pictures", { method: "POST", headers, body: file })).json();
}

export async function getBlob(path) {
  return (await ask(path)).blob();
}

/** The pixels of a layer (by number), the background or the composite; fetched once. */
export function bitmap(picture, part) {
  const key = `${picture}/${part}`;
  if (!bitmaps.has(key)) {
    const made = getBlob(`/api/pictures/${picture}/layers/${part}`)
      .then((blob) => createImageBitmap(blob, { colorSpaceConversion: "none" }));
    made.catch(() => bitmaps.delete(key));
    bitmaps.set(key, made);
  }
  return bitmaps.get(key);
}

/** Call `onJob` at each change of a job, until it is finished; gives the finished job. */
export async function follow(id, onJob) {
  const answer = await ask(`/api/jobs/${id}/events?previews=true`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", job = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const line = text.slice(0, end).split("\n").find((one) => one.startsWith("data: "));
      if (line) onJob(job = JSON.parse(line.slice(6)));
    }
  }
  if (!job || ["queued", "running"].includes(job.state)) {
    throw new ServerError("The connection to the server was lost; the job goes on there.", 0);
  }
  return job;
}
