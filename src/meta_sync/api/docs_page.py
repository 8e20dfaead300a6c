"""A page that shows the OpenAPI document to a person. It loads nothing from anywhere but this API.

The document is read by the page itself, so that there is one source of what it shows.
"""

from __future__ import annotations

__all__ = ["DOCS_PAGE", "DOCS_POLICY"]

DOCS_POLICY = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
"""Content security policy of the page: its own inline parts, and this API."""

DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>meta-sync API</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1.5rem; }
h1 { margin-bottom: 0 } h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); border-radius: 6px; overflow-x: auto; padding: .6rem .8rem; }
table { border-collapse: collapse; width: 100%; } td, th { border-top: 1px solid var(--line); padding: .3rem .5rem;
text-align: left; vertical-align: top; } .method { display: inline-block; font-weight: 700; width: 4.5rem; }
.muted { opacity: .7 } input { font: inherit; padding: .3rem .5rem; width: 100%; box-sizing: border-box; }
</style>
</head>
<body>
<h1>meta-sync API</h1>
<p class="muted">Read from <a href="/openapi.json">/openapi.json</a>. Send an API key as
<code>Authorization: Bearer mk_…</code> or <code>X-API-Key</code>.</p>
<label>Find <input id="find" type="search" placeholder="path, name or word"></label>
<main id="main">Loading …</main>
<script>
const make = (name, text, parent) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
const resolve = (api, part) => {
  if (!part || !part.$ref) return part || {};
  return part.$ref.slice(2).split("/").reduce((at, key) => at[key], api);
};
const typeOf = (api, schema, depth = 0) => {
  if (!schema) return "";
  if (schema.$ref) {
    const found = resolve(api, schema);
    return depth > 3 ? found.title || "object" : typeOf(api, found, depth);
  }
  if (schema.anyOf || schema.oneOf) {
    return (schema.anyOf || schema.oneOf).map(one => typeOf(api, one, depth + 1)).join(" | ");
  }
  if (schema.enum) return schema.enum.map(one => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return "[" + typeOf(api, schema.items, depth + 1) + "]";
  if (schema.properties && depth < 4) {
    const pad = "  ".repeat(depth + 1);
    const needed = new Set(schema.required || []);
    const lines = Object.entries(schema.properties).map(([name, one]) =>
      pad + name + (needed.has(name) ? "" : "?") + ": " + typeOf(api, one, depth + 1));
    return "{\\n" + lines.join("\\n") + "\\n" + "  ".repeat(depth) + "}";
  }
  return schema.format ? schema.type + " (" + schema.format + ")" : String(schema.type || "any");
};
const showBody = (api, title, content, parent) => {
  for (const [media, one] of Object.entries(content || {})) {
    make("p", title + " " + media, parent);
    make("pre", typeOf(api, one.schema), parent);
  }
};
const showOperation = (api, path, method, operation, parent) => {
  const box = make("details", undefined, parent);
  box.dataset.words = [path, method, operation.operationId, operation.summary, operation.description]
    .join(" ").toLowerCase();
  const head = make("summary", undefined, box);
  make("span", method.toUpperCase(), head).className = "method";
  make("code", path, head);
  make("span", "  " + (operation.summary || ""), head).className = "muted";
  if (operation.description) make("p", operation.description, box);
  const parameters = (operation.parameters || []).map(one => resolve(api, one));
  if (parameters.length) {
    const table = make("table", undefined, box);
    for (const one of parameters) {
      const row = make("tr", undefined, table);
      make("td", one.name + (one.required ? "" : "?"), row);
      make("td", one.in, row);
      make("td", typeOf(api, one.schema), row);
      make("td", one.description || "", row);
    }
  }
  if (operation.requestBody) showBody(api, "Body", resolve(api, operation.requestBody).content, box);
  for (const [status, response] of Object.entries(operation.responses || {})) {
    const found = resolve(api, response);
    if (status < "300") showBody(api, status, found.content, box);
    else make("div", status + "  " + (found.description || ""), box).className = "muted";
  }
};
fetch("/openapi.json").then(answer => answer.json()).then(api => {
  const main = document.getElementById("main");
  main.textContent = "";
  const groups = new Map((api.tags || []).map(tag => [tag.name, tag.description]));
  const sections = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      if (!operation.responses) continue;
      const tag = (operation.tags || ["Other"])[0];
      if (!sections.has(tag)) {
        const section = make("section", undefined, main);
        make("h2", tag, section);
        if (groups.get(tag)) make("p", groups.get(tag), section);
        sections.set(tag, section);
      }
      showOperation(api, path, method, operation, sections.get(tag));
    }
  }
  document.getElementById("find").addEventListener("input", event => {
    const word = event.target.value.trim().toLowerCase();
    for (const box of main.querySelectorAll("details")) box.hidden = word && !box.dataset.words.includes(word);
  });
}).catch(() => { document.getElementById("main").textContent = "The document could not be read."; });
</script>
</body>
</html>
"""
