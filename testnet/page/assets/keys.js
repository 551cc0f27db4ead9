// Single keys for what one does again and again. They can be turned off, for those whom they
// disturb (speech input, say), and do nothing while something is typed.

import { h } from "./dom.js";

const off = "openclaw-keys-off";

// keys fills the overlay and listens. state() is the newest state.
export function keys(dialog, hello, act, state) {
  const list = [];
  hello.regions.slice(0, 9).forEach((region, i) =>
    list.push([String(i + 1), "cut " + region + " off, or heal it", () => {
      const now = state().regions[i].mode;
      act({ do: "region", name: region, mode: now === "" ? "both" : "" });
    }]),
  );
  const store = (name, fault) => () => act({ do: "store", name, fault: state()[name].fault ? "" : fault });
  const load = (step) => () => {
    const at = hello.loads.indexOf(state().load) + step;
    if (at >= 0 && at < hello.loads.length) act({ do: "load", times: hello.loads[at] });
  };
  list.push(
    ["k", "KV outage (429), or heal it", store("kv", "429")],
    ["r", "Redis outage, or heal it", store("redis", "down")],
    ["w", "slow and lossy WAN, on or off", () => act({ do: "slow", on: !state().slow })],
    ["f", "flood of new keys, on or off", () => act({ do: "flood", on: !state().flood })],
    ["+", "more load", load(1)],
    ["-", "less load", load(-1)],
    ["h", "heal everything", () => act({ do: "heal" })],
    ["?", "this list", () => dialog.showModal()],
  );
  dialog.querySelector("dl").replaceChildren(
    ...list.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]),
    h("dt", {}, h("kbd", {}, "Tab")), h("dd", {}, "to every button, and Enter or Space to press it"),
    h("dt", {}, h("kbd", {}, "Esc")), h("dd", {}, "closes what is open"),
  );
  const box = dialog.querySelector("input");
  box.checked = !localStorage.getItem(off);
  box.onchange = () => (box.checked ? localStorage.removeItem(off) : localStorage.setItem(off, "yes"));

  document.addEventListener("keydown", (e) => {
    const typing = e.target.closest("input, textarea, select, [contenteditable]");
    if (typing || e.ctrlKey || e.metaKey || e.altKey || e.repeat || !state()) return;
    if (document.querySelector("dialog[open]") || (localStorage.getItem(off) && e.key !== "?")) return;
    const found = list.find(([key]) => key === e.key);
    if (found) {
      e.preventDefault();
      found[2]();
    }
  });
}
