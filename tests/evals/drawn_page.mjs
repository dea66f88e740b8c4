// Runs a report page's own script over a document that only remembers, and writes what was drawn: node drawn_page.mjs PAGE
import { readFileSync } from "node:fs";

const [data, script] = [...readFileSync(process.argv[2], "utf8").matchAll(/<script(?: [^>]*)?>([\s\S]*?)<\/script>/g)].map((m) => m[1]);
const escape = (value) => String(value).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");

class Element {
  constructor(tag) {
    Object.assign(this, { tag, attributes: {}, childNodes: [], style: {}, clientWidth: 420, offsetWidth: 100, offsetHeight: 20 });
  }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  addEventListener() {}
  append(...children) {
    for (const child of children) if (child instanceof Element) child.parentNode = this;
    this.childNodes.push(...children);
  }
  replaceChildren(...children) { this.childNodes = []; this.append(...children); }
  get firstChild() { return this.childNodes[0]; }
  get textContent() { return this.childNodes.map((child) => child.textContent ?? child).join(""); }
  set textContent(words) { this.childNodes = [words]; }
  toString() {
    const attributes = Object.entries(this.attributes).map(([name, value]) => ` ${name}="${escape(value)}"`).join("");
    return `<${this.tag}${attributes}>${this.childNodes.map((child) => (child instanceof Element ? child : escape(child))).join("")}</${this.tag}>`;
  }
}

const places = Object.fromEntries(["data", "header", "main", "tip"].map((id) => [id, new Element("div")]));
places.data.append(data);
const make = (tag) => new Element(tag);
globalThis.document = { createElement: make, createElementNS: (_, tag) => make(tag), getElementById: (id) => places[id],
  addEventListener() {}, querySelector: () => null };
globalThis.requestAnimationFrame = (draw) => draw();
globalThis.ResizeObserver = class { constructor(draw) { this.draw = draw; } observe() { this.draw(); } };
(0, eval)(script);
console.log(`<div>${places.header}${places.main}</div>`);
