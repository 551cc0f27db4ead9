// The page of a testnet: it shows what /events says, and sends what people do to /do.

import { attribute, clock, lines, number, text } from "./dom.js";
import { WorldMap } from "./map.js";
import { Limits } from "./limits.js";
import { Switches } from "./switches.js";
import { Node } from "./node.js";
import { Buckets, Log, Stores } from "./lists.js";
import { keys } from "./keys.js";

const $ = (id) => document.getElementById(id);

let views = []; // what shows the state
let state = null;
let connected = false;

// act sends a command. What is refused is said, and nothing else changes.
async function act(command) {
  let problem = null;
  try {
    const reply = await fetch("/do", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(command),
    });
    if (!reply.ok) problem = (await reply.json()).detail;
  } catch {
    problem = "The testnet does not answer: is openclaw-testnet still running?";
  }
  if (problem) say(problem);
}

let quiet = 0;
function say(problem) {
  const toast = $("toast");
  toast.textContent = problem;
  toast.hidden = false;
  clearTimeout(quiet);
  quiet = setTimeout(() => (toast.hidden = true), 8000);
}

function greet(hello) {
  if (views.length > 0) return location.reload(); // the testnet is another one now
  const node = new Node($("node"), hello, act);
  const log = new Log($("log"));
  const limits = new Limits($("limits"), hello, log);
  views = [
    new WorldMap($("map"), hello, act, node),
    limits,
    new Switches($("switches"), hello, act),
    new Stores($("stores"), hello),
    new Buckets($("buckets"), hello),
    node,
    log,
    { show: top },
  ];
  keys($("keys"), hello, act, () => state);
}

function top(s) {
  text($("status"), s.status.text);
  attribute($("status"), "class", "status " + s.status.tone);
  text($("clock"), clock(s.t));
  text($("offered"), "· " + number(s.offered) + " takes/s offered");
  lines($("why"), s.why);
}

const tell = (name, data) => views.forEach((v) => v[name]?.(data));

function listen() {
  const events = new EventSource("/events");
  const on = (name, does) => events.addEventListener(name, (e) => does(JSON.parse(e.data)));
  on("hello", (m) => {
    connected = true;
    greet(m);
  });
  on("points", (p) => tell("points", p));
  on("log", (l) => tell("log", l));
  on("state", (s) => {
    state = s;
    tell("show", s);
    document.body.dataset.live = "yes";
  });
  events.onerror = () => {
    document.body.dataset.live = "no";
    text($("status"), connected ? "connection lost; trying again" : "connecting…");
    attribute($("status"), "class", "status note");
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000); // refused: the browser alone would not try again
  };
}

$("heal").addEventListener("click", () => act({ do: "heal" }));
$("help").addEventListener("click", () => $("keys").showModal());
listen();
