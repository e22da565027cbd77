// /docs: what /openapi.json says, for people. Nothing is fetched from elsewhere.

const named = (schema) => schema.$ref.split("/").pop();

/** `integer 1..8`, `Generate`, `array of string`: a schema in a few words. */
function type(schema) {
  if (!schema) return "";
  if (schema.$ref) return named(schema);
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const) return schema.const;
  if (schema.anyOf) return schema.anyOf.map(type).join(" or ");
  if (schema.type === "array") return `array of ${type(schema.items)}`;
  const range = "minimum" in schema || "maximum" in schema ? ` ${schema.minimum ?? ""}..${schema.maximum ?? ""}` : "";
  return `${schema.type ?? "any"}${range}${schema.maxLength ? `, at most ${schema.maxLength} characters` : ""}`;
}

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function list(pairs) {
  return element("dl", "", ...pairs.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
}

const api = await (await fetch("openapi.json")).json();
document.getElementById("about").textContent = api.info.description;
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, one] of Object.entries(methods)) {
    const pairs = (one.parameters ?? []).map((it) => [it.name, `${type(it.schema)} (${it.in})`]);
    for (const [kind, body] of Object.entries(one.requestBody?.content ?? {})) pairs.push(["body", `${type(body.schema) || "file"}, ${kind}`]);
    for (const [status, answer] of Object.entries(one.responses)) {
      if (status >= 300) continue;
      const kinds = Object.entries(answer.content ?? {}).map(([kind, it]) => `${it.schema ? `${type(it.schema)}, ` : ""}${kind}`);
      pairs.push([`answer ${status}`, kinds.join("; ") || "nothing"]);
    }
    document.getElementById("requests").append(
      element("article", "", element("h3", `${method.toUpperCase()} ${path}`), element("p", one.description), list(pairs)),
    );
  }
}
for (const [name, schema] of Object.entries(api.components.schemas)) {
  const pairs = Object.entries(schema.properties ?? {}).map(([field, it]) => [
    field, `${type(it)}${it.description ? `. ${it.description}` : ""}${schema.required?.includes(field) ? "" : " (optional)"}`,
  ]);
  document.getElementById("types").append(
    element("article", "", element("h3", name), element("p", schema.description ?? ""), list(pairs)),
  );
}
