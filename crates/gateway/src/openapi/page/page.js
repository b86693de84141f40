// Shows /openapi.json: a list that can be searched, each operation with its schemas, and a form that sends a request.
// Texts of the document and of answers only ever become text nodes, never markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
// Of an answer that does not end, so much is shown.
const SHOWN = 256 * 1024;
// A schema is followed so far when an example is made of it.
const DEEPEST = 8;

let spec = {};
const access = { key: "", namespace: "" };

// An element: its tag (`div.class`), its attributes, what is in it.
function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

const resolve = (value) => {
  for (let steps = 0; value && value.$ref && steps < 20; steps++) {
    const { $ref, ...beside } = value;
    const there = $ref.replace(/^#\//, "").split("/").reduce((at, step) => at && at[step.replace(/~1/g, "/").replace(/~0/g, "~")], spec);
    value = { ...there, ...beside };
  }
  return value || {};
};
const nameOf = (schema) => (schema && schema.$ref ? schema.$ref.split("/").pop() : "");

// A line with `code`, **bold** and [links](…).
const inline = (line) =>
  line.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\(https?:[^)\s]+\))/).map((part) => {
      const link = /^\[([^\]]+)\]\((https?:[^)\s]+)\)$/.exec(part);
      if (link) return h("a", { href: link[2], rel: "noreferrer" }, link[1]);
      if (/^`.+`$/.test(part)) return h("code", {}, part.slice(1, -1));
      if (/^\*\*.+\*\*$/.test(part)) return h("b", {}, part.slice(2, -2));
      return part;
    });

// Such lines, in lists and paragraphs.
function prose(text) {
  return h("div.desc", {}, (text || "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) => {
    const lines = part.split("\n");
    if (lines.every((line) => /^\s*[-*] /.test(line))) {
      return h("ul", {}, lines.map((line) => h("li", {}, inline(line.replace(/^\s*[-*] /, "")))));
    }
    return h("p", {}, lines.flatMap((line, i) => (i ? ["\n", ...inline(line)] : inline(line))));
  }));
}

// ---- schemas

function merged(schema) {
  schema = resolve(schema);
  if (!schema.allOf) return schema;
  const whole = { ...schema, properties: { ...schema.properties }, required: [...(schema.required || [])] };
  delete whole.allOf;
  for (const part of schema.allOf.map(merged)) {
    Object.assign(whole.properties, part.properties);
    whole.required.push(...(part.required || []));
    for (const key of ["type", "oneOf", "anyOf", "format", "enum", "items", "pattern", "additionalProperties"]) {
      if (whole[key] === undefined && part[key] !== undefined) whole[key] = part[key];
    }
    whole.description = whole.description || part.description;
  }
  return whole;
}

const choices = (schema) => schema.oneOf || schema.anyOf;
const isNull = (schema) => schema.type === "null";

function typeOf(schema) {
  const name = nameOf(schema);
  const whole = merged(schema);
  if (whole.const !== undefined) return JSON.stringify(whole.const);
  const some = choices(whole);
  if (some && !name) return some.map(typeOf).join(" | ");
  const types = [].concat(whole.type || (whole.properties ? "object" : whole.items ? "array" : some ? [] : "any"));
  const words = types.map((type) => {
    if (type === "array") return `${typeOf(whole.items || {})}[]`;
    if (type === "object" && whole.additionalProperties && whole.additionalProperties !== true && !Object.keys(whole.properties || {}).length) {
      return `map of ${typeOf(whole.additionalProperties)}`;
    }
    if (type === "string" && whole.format) return whole.format;
    return type;
  });
  const plain = words.join(" | ");
  return name && (whole.properties || some || whole.enum) ? name : plain;
}

function limits(schema) {
  const whole = merged(schema);
  const notes = [];
  const { minimum, maximum, minLength, maxLength, minItems, maxItems, pattern } = whole;
  const range = (least, most, what) => {
    if (least !== undefined && most !== undefined) notes.push(least === most ? `${least}${what}` : `${least} to ${most}${what}`);
    else if (least !== undefined && (least || what)) notes.push(`at least ${least}${what}`);
    else if (most !== undefined) notes.push(`at most ${most}${what}`);
  };
  range(minimum === 0 && maximum === undefined ? undefined : minimum, maximum, "");
  range(minLength, maxLength, " characters");
  range(minItems, maxItems, " entries");
  if (pattern) notes.push(pattern);
  if (whole.default !== undefined && whole.default !== null) notes.push(`default ${JSON.stringify(whole.default)}`);
  return notes.join(", ");
}

// What is inside a schema, as rows; nothing where its type says all.
function inside(schema, above) {
  const name = nameOf(schema);
  if (name && above.includes(name)) return h("div.row.dim", {}, `${name}, as above`);
  const path = name ? [...above, name] : above;
  const whole = merged(schema);
  if (whole.enum) return whole.enum.length > 1 ? h("div.row", {}, h("span.dim", {}, "one of "), whole.enum.flatMap((value, i) => [i ? " " : "", h("code", {}, JSON.stringify(value))])) : null;
  const rows = Object.entries(whole.properties || {}).map(([key, value]) => row(key, value, (whole.required || []).includes(key), path));
  const some = (choices(whole) || []).filter((choice) => !isNull(merged(choice)));
  if (some.length === 1) rows.push(inside(some[0], path));
  else some.forEach((choice, i) => {
    const deep = inside(choice, path);
    const word = merged(choice).title || nameOf(choice) || typeOf(choice);
    const about = merged(choice).description;
    const label = `${i ? "or" : "either"} ${word}${about ? `: ${about.split("\n")[0]}` : ""}`;
    rows.push(deep ? h("details", {}, h("summary", {}, label), deep) : h("div.row.dim", {}, label));
  });
  if (whole.items) rows.push(inside(whole.items, path));
  if (whole.additionalProperties && whole.additionalProperties !== true) rows.push(inside(whole.additionalProperties, path));
  const found = rows.filter(Boolean);
  return found.length ? h("div", {}, found) : null;
}

function row(key, schema, required, path) {
  const whole = merged(schema);
  const line = h("div.row", {},
    h("span.name", {}, key), required ? h("span.must", { title: "required" }, " *") : "",
    h("span.type", {}, typeOf(schema)), h("span.note", {}, limits(schema)),
    whole.description ? prose(whole.description) : "");
  // A level is made when it is opened: there may be many.
  if (Object.keys(whole.properties || {}).length || choices(whole) || whole.items || whole.enum || (whole.additionalProperties || {}).$ref) {
    const probe = inside(schema, path);
    if (probe) line.append(h("details", {}, h("summary", {}, "more"), probe));
  }
  return line;
}

const schemaBox = (schema) => {
  const deep = inside(schema, []);
  return h("div.schema", {}, h("div.row", {}, h("span.type", {}, typeOf(schema)), h("span.note", {}, limits(schema))), deep || "");
};

// An example of what a schema describes: what it gives itself, or required fields with the likeliest values.
function example(schema, depth = 0) {
  const whole = merged(schema);
  if (whole.example !== undefined) return whole.example;
  if (Array.isArray(whole.examples) && whole.examples.length) return whole.examples[0];
  if (whole.default !== undefined && whole.default !== null) return whole.default;
  if (whole.const !== undefined) return whole.const;
  if (whole.enum) return whole.enum[0];
  if (depth > DEEPEST) return null;
  const some = (choices(whole) || []).filter((choice) => !isNull(merged(choice)));
  const type = [].concat(whole.type || [])[0];
  if (whole.properties || type === "object") {
    const object = {};
    for (const [key, value] of Object.entries(whole.properties || {})) {
      if ((whole.required || []).includes(key)) object[key] = example(value, depth + 1);
    }
    return object;
  }
  if (some.length) return example(some[0], depth + 1);
  if (type === "array") return whole.items && (whole.minItems || depth < 3) ? [example(whole.items, depth + 1)] : [];
  if (type === "integer" || type === "number") return whole.minimum || 0;
  if (type === "boolean") return false;
  if (type === "string") return whole.format === "uuid" ? "01890a5d-ac96-774b-bcce-b302099a8057" : whole.format === "date-time" ? "2026-01-31T12:00:00Z" : "text";
  return {};
}

// ---- requests

// JSON as colored text nodes.
function colored(text) {
  const parts = text.split(/("(?:[^"\\]|\\.)*"\s*:?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/);
  return parts.map((part, i) => {
    if (i % 2 === 0) return part;
    if (part.endsWith(":")) return h("span.k", {}, part);
    return h(part.startsWith('"') ? "span.s" : "span.n", {}, part);
  });
}

const quoted = (text) => `'${String(text).replace(/'/g, "'\\''")}'`;

function credentials(operation) {
  const headers = {};
  if (!access.key) return headers;
  const scheme = Object.keys((operation.security || spec.security || [{}])[0] || {})[0];
  const how = ((spec.components || {}).securitySchemes || {})[scheme];
  if (how && how.type === "http") headers.authorization = `Bearer ${access.key}`;
  else if (how && how.in === "header") headers[how.name] = access.key;
  return headers;
}

function tryIt(path, method, operation) {
  const box = h("details.try", {}, h("summary", {}, "Try it"));
  box.addEventListener("toggle", () => box.open && box.children.length === 1 && fill(), { once: true });
  const parameters = (operation.parameters || []).map(resolve);
  function fill() {
    const inputs = parameters.filter((it) => it.name.toLowerCase() !== "x-namespace").map((parameter) => {
      const schema = merged(parameter.schema || {});
      const values = schema.enum || (schema.type === "boolean" ? [true, false] : null);
      const given = parameter.in === "path" ? parameter.example ?? schema.example : undefined;
      const input = values
        ? h("select", {}, h("option", { value: "" }, ""), values.map((value) => h("option", {}, String(value))))
        : h("input.mono", { value: given, placeholder: parameter.example ?? "", autocomplete: "off", spellcheck: "false" });
      return { parameter, input };
    });
    const content = Object.entries(resolve(operation.requestBody).content || {});
    const type = content.length ? h("select", {}, content.map(([name]) => h("option", {}, name))) : null;
    const body = content.length ? h("textarea", { spellcheck: "false", "aria-label": "Body", rows: 10 }) : null;
    const sample = () => {
      const [name, media] = content.find(([it]) => it === type.value) || content[0];
      const named = Object.values(media.examples || {}).map(resolve)[0];
      const value = media.example ?? (named && named.value) ?? example(media.schema || {});
      body.value = typeof value === "string" ? value : JSON.stringify(value, null, /ndjson/.test(name) ? 0 : 2);
    };
    if (body) { sample(); type.addEventListener("change", sample); }
    const answer = h("div.answer", { "aria-live": "polite" });
    const go = h("button.go", { type: "button" }, "Send");
    const stop = h("button.plain", { type: "button", hidden: true }, "Stop");
    const request = () => {
      let url = path;
      const query = new URLSearchParams();
      const headers = credentials(operation);
      if (access.namespace && parameters.some((it) => it.name.toLowerCase() === "x-namespace")) headers["x-namespace"] = access.namespace;
      for (const { parameter, input } of inputs) {
        const value = input.value.trim();
        if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(value || `{${parameter.name}}`));
        else if (value && parameter.in === "query") query.append(parameter.name, value);
        else if (value && parameter.in === "header") headers[parameter.name.toLowerCase()] = value;
      }
      if ([...query].length) url += `?${query}`;
      if (body && body.value.trim()) headers["content-type"] = type.value;
      return { url, headers, body: body && body.value.trim() ? body.value : undefined };
    };
    const curl = () => {
      const { url, headers, body } = request();
      const lines = [`curl -sS${method === "get" ? "" : ` -X ${method.toUpperCase()}`} ${quoted(location.origin + url)}`];
      for (const [name, value] of Object.entries(headers)) lines.push(`  -H ${quoted(`${name}: ${value}`)}`);
      if (body) lines.push(`  --data-binary ${quoted(body)}`);
      return lines.join(" \\\n");
    };
    const showCurl = () => answer.replaceChildren(h("pre", {}, curl()));
    go.addEventListener("click", () => send(method, request(), answer, go, stop));
    box.append(
      inputs.length ? h("div.fields", {}, inputs.map(({ parameter, input }) =>
        h("label", {}, h("b", {}, parameter.name), parameter.required ? h("span.must", {}, " *") : "", ` ${parameter.in}`, input))) : "",
      body ? h("div", {}, h("h4", {}, "Body"), content.length > 1 ? type : "", body) : "",
      h("div.actions", {}, go, stop, h("button.plain", { type: "button", onclick: showCurl }, "curl"),
        h("span.dim", {}, method === "get" ? "" : "This is carried out.")),
      answer);
  }
  return box;
}

async function send(method, request, answer, go, stop) {
  const control = new AbortController();
  const meta = h("div.meta", {}, "Waiting…");
  const pre = h("pre", {});
  const since = performance.now();
  go.disabled = true;
  stop.hidden = false;
  stop.onclick = () => control.abort();
  answer.replaceChildren(meta);
  try {
    const response = await fetch(request.url, { method: method.toUpperCase(), headers: request.headers, body: request.body, signal: control.signal });
    const type = response.headers.get("content-type") || "";
    const status = h(response.ok ? "span.status.good" : "span.status", {}, String(response.status));
    const told = () => `${Math.round(performance.now() - since)} ms`;
    meta.replaceChildren(status, response.statusText, h("span", {}, told()), h("span", {}, type));
    const retry = response.headers.get("retry-after");
    if (retry) meta.append(h("span", {}, `Retry-After: ${retry}`));
    answer.append(pre);
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    let cut = false;
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      text += decoder.decode(part.value, { stream: true });
      if (text.length > SHOWN) { text = text.slice(-SHOWN); cut = true; }
      pre.textContent = text;
    }
    if (/json/.test(type) && !/ndjson/.test(type) && !cut) {
      try { pre.replaceChildren(...colored(JSON.stringify(JSON.parse(text), null, 2))); } catch { /* as it came */ }
    }
    if (!text) pre.remove();
    if (cut) meta.append(h("span", {}, "only the end is shown"));
  } catch (error) {
    if (error.name === "AbortError") meta.append(h("span", {}, "stopped"));
    else answer.replaceChildren(h("p.error", {}, `No answer: ${error.message}`));
  } finally {
    go.disabled = false;
    stop.hidden = true;
  }
}

// ---- the page

function operationCard({ path, method, operation, id }) {
  const card = h("details.op.card", { id });
  const shownPath = path.split(/(\{[^}]+\})/).map((part) => (part.startsWith("{") ? h("i", {}, part) : part));
  card.append(h("summary", {}, h(`span.verb.${method}`, {}, method), h("span.path", {}, shownPath), h("span.summary", {}, operation.summary || "")));
  // Its content is made when it is opened.
  card.addEventListener("toggle", () => {
    if (!card.open || card.children.length > 1) return;
    const parameters = (operation.parameters || []).map(resolve);
    const body = resolve(operation.requestBody);
    const content = Object.entries(body.content || {});
    card.append(h("div.body", {},
      operation.deprecated ? h("p.error", {}, "Deprecated.") : "",
      prose([operation.summary, operation.description].filter((it, i, all) => it && all.indexOf(it) === i).join("\n\n")),
      parameters.length ? [h("h4", {}, "Parameters"), h("table", {}, parameters.map((it) =>
        h("tr", {}, h("td", {}, it.name, it.required ? h("span.must", { title: "required" }, " *") : "", h("div.type", {}, `${it.in} · ${typeOf(it.schema || {})}`)),
          h("td", {}, prose(it.description || merged(it.schema || {}).description), h("span.type", {}, limits(it.schema || {}))))))] : [],
      content.map(([type, media]) => [h("h4", {}, `Body · ${type}`), schemaBox(media.schema || {})]),
      h("h4", {}, "Responses"),
      Object.entries(operation.responses || {}).map(([status, raw]) => {
        const response = resolve(raw);
        const kinds = Object.entries(response.content || {});
        const good = status.startsWith("2");
        return h("details.response", { open: good && kinds.length > 0 },
          h("summary", {}, h(good ? "span.status.good" : "span.status", {}, status), h("span", {}, inline((response.description || "").split("\n")[0])), h("span.dim.mono", {}, kinds.map(([type]) => type).join(", "))),
          kinds.map(([, media]) => (media.schema ? schemaBox(media.schema) : "")));
      }),
      tryIt(path, method, operation)));
  });
  return card;
}

function accessCard() {
  const remember = (name) => (event) => {
    access[name] = event.target.value.trim();
    try { sessionStorage.setItem(`redrive.${name}`, access[name]); } catch { /* it holds until the page is left */ }
  };
  for (const name of Object.keys(access)) {
    try { access[name] = sessionStorage.getItem(`redrive.${name}`) || ""; } catch { /* nothing is kept */ }
  }
  return h("div.card.access", {}, h("h3", {}, "Access"),
    h("span.dim", {}, "For requests that are sent from this page. Kept in this tab only. A gateway of ", h("code", {}, "redrive dev"), " asks for no key."),
    h("div.fields", {},
      h("label", {}, h("b", {}, "API key"), h("input.mono", { type: "password", autocomplete: "off", value: access.key, oninput: remember("key") })),
      h("label", {}, h("b", {}, "X-Namespace"), h("input.mono", { value: access.namespace, placeholder: "that of the key", autocomplete: "off", spellcheck: "false", oninput: remember("namespace") }))));
}

function show() {
  const info = spec.info || {};
  document.getElementById("version").textContent = info.version || "";
  const operations = Object.entries(spec.paths || {}).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => {
      const operation = { ...item[method], parameters: [...(item.parameters || []), ...(item[method].parameters || [])] };
      const id = operation.operationId || `${method}${path.replace(/\W+/g, "-")}`;
      const tag = (operation.tags || ["Operations"])[0];
      const text = [method, path, operation.summary, operation.description, id, tag].join(" ").toLowerCase();
      return { path, method, operation, id, tag, text };
    }));
  const tags = [...new Set([...(spec.tags || []).map((tag) => tag.name), ...operations.map((it) => it.tag)])];
  const about = Object.fromEntries((spec.tags || []).map((tag) => [tag.name, tag.description]));
  const main = document.getElementById("main");
  const list = document.getElementById("list");
  const links = new Map();
  main.replaceChildren(h("h1", {}, info.title || "API"), prose(info.description), accessCard());
  const groups = [];
  for (const tag of tags) {
    const own = operations.filter((it) => it.tag === tag);
    if (!own.length) continue;
    main.append(h("section", { id: `tag-${tag}` }, h("h2", {}, tag), prose(about[tag]), own.map(operationCard)));
    const entries = own.map((it) => {
      const link = h("a", { href: `#${it.id}`, title: `${it.method.toUpperCase()} ${it.path}` }, h(`span.verb.${it.method}`, {}, it.method), it.operation.summary || it.path);
      links.set(it.id, link);
      return { ...it, link };
    });
    const head = h("h2", {}, tag);
    list.append(head, ...entries.map((it) => it.link));
    groups.push({ head, entries });
  }
  const none = h("p.none", { hidden: true }, "Nothing of that.");
  list.append(none);

  const search = document.getElementById("search");
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { head, entries } of groups) {
      const fit = entries.filter(({ link, text }) => {
        const fits = words.every((word) => text.includes(word));
        link.hidden = !fits;
        link.style.display = fits ? "" : "none";
        return fits;
      });
      head.style.display = fit.length ? "" : "none";
      found += fit.length;
    }
    none.hidden = found > 0;
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { search.value = ""; search.dispatchEvent(new Event("input")); search.blur(); }
    if (event.key === "Enter") {
      const first = [...links.values()].find((link) => link.style.display !== "none");
      if (first) first.click();
    }
  });
  const follow = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const card = id && document.getElementById(id);
    if (!card) return;
    if (card.tagName === "DETAILS") card.open = true;
    card.scrollIntoView();
    for (const [name, link] of links) link.classList.toggle("here", name === id);
    document.getElementById("side").classList.remove("open");
  };
  addEventListener("hashchange", follow);
  list.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.hash === location.hash) follow();
  });
  follow();
}

function controls() {
  const root = document.documentElement;
  try { const kept = localStorage.getItem("redrive.theme"); if (kept) root.dataset.theme = kept; } catch { /* the system's */ }
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("redrive.theme", root.dataset.theme); } catch { /* it holds until the page is left */ }
  });
  const menu = document.getElementById("menu");
  menu.addEventListener("click", () => menu.setAttribute("aria-expanded", document.getElementById("side").classList.toggle("open")));
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName) && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      document.getElementById("search").focus();
    }
  });
}

controls();
fetch("/openapi.json")
  .then((response) => (response.ok ? response.json() : Promise.reject(new Error(`status ${response.status}`))))
  .then((document) => { spec = document; show(); })
  .catch((error) => { document.getElementById("state").textContent = `The document could not be loaded: ${error.message}`; });
