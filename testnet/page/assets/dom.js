// Making elements, and changing only what has changed: a page that is told everything four times
// a second must not take the focus, or a selection, away from anybody.

// h makes an element. Attributes that are functions are listeners; true and false are kept as words
// for aria-…, else they set or leave out the attribute.
export function h(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") e.addEventListener(name, value);
    else if (name.startsWith("aria-") || typeof value !== "boolean") e.setAttribute(name, value);
    else if (value) e.setAttribute(name, "");
  }
  e.append(...children);
  return e;
}

export function svg(tag, attributes = {}) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}

export function text(e, value) {
  if (e.textContent !== value) e.textContent = value;
}

export function attribute(e, name, value) {
  if (e.getAttribute(name) !== String(value)) e.setAttribute(name, value);
}

// lines makes a list say these {tone, text}, and leaves it alone when it says them already.
export function lines(list, items) {
  const now = JSON.stringify(items);
  if (list.dataset.says === now) return;
  list.dataset.says = now;
  list.replaceChildren(...items.map((i) => h("li", { class: "line " + i.tone }, i.text)));
}

// clock is a time in the testnet: minutes and seconds since it began.
export function clock(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  return Math.floor(s / 60) + ":" + String(s % 60).padStart(2, "0");
}

// number shows so many digits behind the point, with a true minus sign and no "−0".
export function number(x, digits = 0) {
  const s = x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return /^-[0.,]*$/.test(s) ? s.slice(1) : s.replace("-", "−");
}

// milliseconds are shown as seconds from ten of them on.
export function milliseconds(ms) {
  return ms < 10000 ? number(ms) + " ms" : number(ms / 1000) + " s";
}
