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
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 68rem; padding: 1.5rem; }
h1 { margin-bottom: 0 } h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; } h3 { margin-bottom: .2rem }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem; }
details details { border: 0; margin: 0; padding: 0; }
summary { cursor: pointer; } code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); border-radius: 6px; padding: .6rem .8rem; white-space: pre-wrap;
overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; } td, th { border-top: 1px solid var(--line); padding: .3rem .5rem;
text-align: left; vertical-align: top; } td code { white-space: nowrap } td:first-child, th:first-child { padding-left: 0 }
.method { display: inline-block; font-weight: 700; width: 4.5rem; } .wide { overflow-x: auto }
.muted { opacity: .7 } input { font: inherit; padding: .3rem .5rem; width: 100%; box-sizing: border-box; }
nav a { margin-right: 1rem; white-space: nowrap; }
</style>
</head>
<body>
<h1>meta-sync API</h1>
<p class="muted">Read from <a href="/openapi.json">/openapi.json</a>. Send an API key as
<code>Authorization: Bearer mk_…</code> or <code>X-API-Key</code>.</p>
<nav id="nav"></nav>
<div id="intro"></div>
<label>Find <input id="find" type="search" placeholder="path, name, code or word"></label>
<main id="main">Loading …</main>
<script>
const make = (name, text, parent) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
// Words with code in backticks; all that our descriptions are made of.
const say = (name, text, parent) => {
  const node = make(name, undefined, parent);
  (text || "").split("`").forEach((part, index) => index % 2 ? make("code", part, node) : node.append(part));
  return node;
};
const tableOf = (head, rows, parent) => {
  const table = make("table", undefined, Object.assign(make("div", undefined, parent), { className: "wide" }));
  const first = make("tr", undefined, table);
  for (const one of head) make("th", one, first);
  for (const row of rows) {
    const line = make("tr", undefined, table);
    for (const one of row) say("td", one, line);
  }
};
const tell = (text, parent) => {
  for (const block of (text || "").split("\\n\\n")) {
    if (block.startsWith("## ")) make("h3", block.slice(3), parent);
    else if (block.startsWith("|")) {
      const rows = block.split("\\n").map(line => line.slice(1, -1).split("|").map(cell => cell.trim()));
      tableOf(rows[0], rows.slice(2), parent);
    } else say("p", block, parent);
  }
};
const resolve = (api, part) => {
  if (!part || !part.$ref) return part || {};
  return part.$ref.slice(2).split("/").reduce((at, key) => at[key], api);
};
const typeOf = (api, schema, depth = 0) => {
  if (!schema) return "";
  if (schema.$ref) {
    const found = resolve(api, schema);
    return depth > 3 && found.properties ? schema.$ref.split("/").pop() : typeOf(api, found, depth);
  }
  if (schema.anyOf || schema.oneOf) {
    return (schema.anyOf || schema.oneOf).map(one => typeOf(api, one, depth)).join(" | ");
  }
  if (schema.enum) return schema.enum.map(one => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return "[" + typeOf(api, schema.items, depth) + "]";
  if (schema.properties && depth < 5) {
    const pad = "  ".repeat(depth + 1);
    const needed = new Set(schema.required || []);
    const lines = Object.entries(schema.properties).map(([name, one]) => {
      const type = typeOf(api, one, depth + 1);
      const about = one.description ? "// " + one.description : "";
      const head = pad + name + (needed.has(name) ? "" : "?") + ": ";
      return type.includes("\\n") ? (about ? pad + about + "\\n" : "") + head + type : head + type + "  " + about;
    });
    return "{\\n" + lines.join("\\n") + "\\n" + "  ".repeat(depth) + "}";
  }
  if (schema.additionalProperties && schema.additionalProperties.type) {
    return "{[name]: " + typeOf(api, schema.additionalProperties, depth) + "}";
  }
  return schema.format ? schema.type + " (" + schema.format + ")" : String(schema.type || "any");
};
const valueOf = example => typeof example.value === "string" ? example.value : JSON.stringify(example.value, null, 2);
const fold = (title, text, parent) => {
  const box = make("details", undefined, parent);
  make("summary", title, box);
  make("pre", text, box);
};
const showBody = (api, title, content, parent) => {
  for (const [media, one] of Object.entries(content || {})) {
    make("h3", title + " " + media, parent);
    fold("Fields", typeOf(api, one.schema), parent);
    for (const example of Object.values(one.examples || {})) fold("Example", valueOf(resolve(api, example)), parent);
  }
};
const showErrors = (api, operation, parent) => {
  const rows = [];
  for (const [status, response] of Object.entries(operation.responses || {})) {
    if (status < "400") continue;
    const content = Object.values(response.content || {})[0] || {};
    for (const [code, one] of Object.entries(content.examples || {})) {
      const example = resolve(api, one);
      rows.push([status, "`" + code + "`", example.value.message, example.description]);
    }
  }
  make("h3", "Errors", parent);
  tableOf(["status", "errorCode", "such as", "what to do"], rows, parent);
};
const showOperation = (api, path, method, operation, parent) => {
  const box = make("details", undefined, parent);
  box.id = operation.operationId;
  box.dataset.words = [path, method, operation.operationId, operation.summary, operation.description,
    JSON.stringify(operation.responses)].join(" ").toLowerCase();
  const head = make("summary", undefined, box);
  make("span", method.toUpperCase(), head).className = "method";
  make("code", path, head);
  make("span", "  " + (operation.summary || ""), head).className = "muted";
  // Filled when it is opened: all at once would be tens of thousands of nodes.
  const fill = () => {
    say("p", operation.description, box);
    const parameters = (operation.parameters || []).map(one => resolve(api, one));
    if (parameters.length) {
      make("h3", "Parameters", box);
      tableOf(["name", "in", "type", "meaning"], parameters.map(one =>
        [one.name + (one.required ? "" : "?"), one.in, typeOf(api, one.schema), one.description]), box);
    }
    if (operation.requestBody) {
      const body = resolve(api, operation.requestBody);
      showBody(api, "Body", body.content, box);
      if (body.description) say("p", body.description, box);
    }
    for (const [status, response] of Object.entries(operation.responses || {})) {
      if (status >= "400") continue;
      if (response.content) showBody(api, status, response.content, box);
      else say("p", status + "  " + (response.description || ""), box);
      const leads = Object.values(response.links || {}).map(link => link.operationId);
      if (leads.length) {
        const line = make("p", "Leads to ", box);
        for (const id of new Set(leads)) make("a", id, line).href = "#" + id, line.append(" ");
      }
    }
    showErrors(api, operation, box);
  };
  box.addEventListener("toggle", () => { if (box.open) fill(); }, { once: true });
};
const showCodes = (api, parent) => {
  const answer = api.paths["/admin/meta/error-codes"].get.responses["200"].content["application/json"];
  const codes = Object.values(answer.examples)[0].value.data.codes;
  const section = make("section", undefined, parent);
  make("h2", "Codes", section).id = "codes";
  say("p", "Whatever goes wrong, waits or is left out carries one of these, as `GET /admin/meta/error-codes` has them.",
    section);
  for (const group of new Set(codes.map(one => one.group))) {
    make("h3", group, section);
    tableOf(["code", "category", "severity", "what it means", "what to do"], codes.filter(one => one.group === group)
      .map(one => ["`" + one.code + "`", one.category, one.severity, one.explanation, one.action]), section);
  }
};
const openNamed = () => {
  const box = document.getElementById(location.hash.slice(1));
  if (box && box.tagName === "DETAILS") { box.open = true; box.scrollIntoView(); }
};
fetch("/openapi.json").then(answer => answer.json()).then(api => {
  const main = document.getElementById("main");
  const nav = document.getElementById("nav");
  main.textContent = "";
  tell(api.info.description, document.getElementById("intro"));
  const sections = new Map();
  for (const tag of api.tags || []) {
    const section = make("section", undefined, main);
    make("h2", tag.name, section).id = tag.name.toLowerCase();
    make("a", tag.name, nav).href = "#" + tag.name.toLowerCase();
    say("p", tag.description, section);
    sections.set(tag.name, section);
  }
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      if (operation.responses) showOperation(api, path, method, operation, sections.get(operation.tags[0]));
    }
  }
  make("a", "Codes", nav).href = "#codes";
  showCodes(api, main);
  document.getElementById("find").addEventListener("input", event => {
    const word = event.target.value.trim().toLowerCase();
    for (const box of main.querySelectorAll("section > details")) {
      box.hidden = word && !box.dataset.words.includes(word);
    }
  });
  addEventListener("hashchange", openNamed);
  openNamed();
}).catch(() => { document.getElementById("main").textContent = "The document could not be read."; });
</script>
</body>
</html>
"""
