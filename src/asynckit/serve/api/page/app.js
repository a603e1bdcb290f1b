// A chat with the server that serves this page, and its load. Whatever comes from the server or the model is put
// into the page as text, never as HTML.

const element = (id) => document.getElementById(id);
const KEY = "asynckit.key";
const SAMPLES = 120;

let conversation = []; // {role, content}: what both sides said, as the API wants it
const plain = new Set(); // models that can't chat: they go on from a text
let running = null; // AbortController of the answer that is being written

class Problem extends Error {
  constructor(message, status = 0, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// ---- the server

async function call(path, { body, signal } = {}) {
  const key = element("key").value.trim();
  if (!/^[\x21-\x7e]*$/.test(key)) throw new Problem("This API key has characters that no key has.", 401);
  const headers = { ...(body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server can’t be reached. Is it still running?");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const text = await response.text().catch(() => "");
  let said = {};
  try {
    said = JSON.parse(text).error ?? {};
  } catch {
    // no body of ours: a proxy, say
  }
  const message = said.message ?? `The server answered with status ${response.status}.`;
  const again = response.headers.get("retry-after");
  return new Problem(again ? `${message}; try again in ${again} s` : message, response.status, said.code);
}

// The data of each server-sent event; ends at [DONE].
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Problem("The answer broke off: the connection was closed.");
      const blocks = (buffer + value).split(/\r?\n\r?\n/);
      buffer = blocks.pop();
      for (const block of blocks) {
        const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
        if (data === "[DONE]") return;
        if (data) yield JSON.parse(data);
      }
    }
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
    throw new Problem("The answer broke off: the connection was closed.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

function question(model) {
  const number = (id) => (element(id).value === "" ? undefined : Number(element(id).value));
  const body = { model, temperature: number("temperature"), max_tokens: number("max-tokens"), seed: number("seed") };
  const system = element("system").value.trim();
  if (plain.has(model)) {
    body.prompt = conversation.map((turn) => turn.content).join("");
  } else {
    body.messages = [...(system ? [{ role: "system", content: system }] : []), ...conversation];
  }
  return { ...body, stream: true, stream_options: { include_usage: true } };
}

// Ask for an answer; models without a chat template are asked once more, to go on from the text alone.
async function begin(model, signal) {
  try {
    return await call(plain.has(model) ? "v1/completions" : "v1/chat/completions", { body: question(model), signal });
  } catch (error) {
    if (error.code !== "no_chat_template") throw error;
    plain.add(model);
    return begin(model, signal);
  }
}

// ---- the conversation

async function send() {
  const text = element("text").value;
  const model = element("model").value;
  if (running || !text.trim() || element("model").disabled) return;
  const asked = addTurn("user");
  render(asked.text, text);
  element("text").value = "";
  fit();
  const said = conversation;
  said.push({ role: "user", content: text });
  const turn = addTurn("assistant", model);
  const answer = await receive(model, turn);
  if (answer) {
    said.push({ role: "assistant", content: answer });
  } else { // nothing was answered: as if it had not been said
    said.pop();
    asked.whole.remove();
    turn.whole.remove();
    element("text").value ||= text;
  }
  fit();
}

// Stream an answer into its turn; returns its text, empty if none came.
async function receive(model, turn) {
  const begun = performance.now();
  const answer = { text: "", pieces: 0, tokens: 0, first: 0, finish: "" };
  running = new AbortController();
  busy(true);
  const drawing = everyFrame(() => render(turn.text, answer.text));
  try {
    for await (const event of events(await begin(model, running.signal))) take(event, answer, begun);
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "stopped";
    else show(error, answer);
  } finally {
    drawing.stop();
    running = null;
    busy(false);
  }
  render(turn.text, answer.text);
  finish(turn, answer, (performance.now() - begun) / 1000);
  return answer.text;
}

function take(event, answer, begun) {
  if (event.error) throw new Problem(event.error.message);
  const [choice] = event.choices ?? [];
  const piece = choice?.delta?.content ?? choice?.text ?? "";
  if (piece) {
    answer.first ||= (performance.now() - begun) / 1000;
    answer.pieces += 1;
    answer.text += piece;
  }
  answer.finish = choice?.finish_reason ?? answer.finish;
  answer.tokens = event.usage?.completion_tokens ?? answer.tokens;
}

function addTurn(role, name = "") {
  const whole = make("article", `turn ${role}`);
  if (name) whole.append(make("div", "name", name));
  const text = make("div", "text");
  whole.append(text);
  element("welcome").hidden = true;
  element("log").append(whole);
  if (name) whole.classList.add("running");
  toEnd(true);
  return { whole, text };
}

function finish(turn, answer, seconds) {
  turn.whole.classList.remove("running");
  const tokens = answer.tokens || answer.pieces;
  const after = seconds - answer.first;
  const facts = [`${tokens} token${tokens === 1 ? "" : "s"}`];
  if (tokens > 1 && after > 0) facts.push(`${round((tokens - 1) / after)} tokens/s`);
  facts.push(`first after ${round(answer.first)} s`);
  if (answer.finish === "length") facts.push("cut off, the most tokens are reached");
  else if (answer.finish && answer.finish !== "stop") facts.push(answer.finish);
  const footer = make("footer", "", "");
  footer.append(make("span", "", facts.join(" · ")));
  if (navigator.clipboard) footer.append(copier(answer.text));
  turn.whole.append(footer);
  toEnd(false);
}

function copier(text) {
  const button = make("button", "", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text).then(() => (button.textContent = "Copied"), () => (button.textContent = "Not allowed"));
  });
  return button;
}

function show(error, answer) {
  const box = make("p", "problem");
  box.setAttribute("role", "alert");
  box.append(make("strong", "", answer.text ? "Only a part came. " : "No answer. "), error.message);
  for (const old of document.querySelectorAll(".problem")) old.remove();
  element("log").append(box);
  answer.finish = "broken off";
  if (error.status === 401 || error.status === 403) askForKey();
  toEnd(true);
}

function busy(is) {
  element("stop").hidden = !is;
  element("send").hidden = is;
  element("log").setAttribute("aria-busy", String(is));
  if (is) for (const old of document.querySelectorAll(".problem")) old.remove();
}

// ---- text on the page

function make(tag, kind = "", text = "") {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  return made;
}

// Text with code and bold words set off. Only elements that are made here, filled with text.
function render(into, text) {
  const parts = text.split(/^```[^\n`]*\n([^]*?)(?:^```[ \t]*(?:\n|$)|$(?![^]))/m);
  into.replaceChildren(...parts.flatMap((part, index) => (index % 2 ? block(part) : inline(part))));
  toEnd(false);
}

function block(code) {
  const pre = make("pre");
  pre.append(make("code", "", code.replace(/\n$/, "")));
  return [pre];
}

function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part, index) => {
    if (index % 2 === 0) return document.createTextNode(part);
    return part[0] === "`" ? make("code", "", part.slice(1, -1)) : make("strong", "", part.slice(2, -2));
  });
}

function everyFrame(draw) {
  let number = 0;
  const again = () => {
    draw();
    number = requestAnimationFrame(again);
  };
  again();
  return { stop: () => cancelAnimationFrame(number) };
}

// Follow what is written, unless the person has scrolled up to read.
function toEnd(surely) {
  const scroller = element("scroller");
  if (surely || scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 120) scroller.scrollTop = scroller.scrollHeight;
}

function fit() {
  const text = element("text");
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
  element("send").disabled = !text.value.trim() || element("model").disabled;
}

const round = (value) => value.toFixed(value >= 100 || value === 0 ? 0 : value >= 10 ? 1 : 2);

// ---- models and access

async function loadModels() {
  const list = (await (await call("v1/models", { signal: AbortSignal.timeout(10_000) })).json()).data;
  const select = element("model");
  const before = select.value;
  const groups = [["Model", list.filter((card) => !card.parent)], ["Adapters", list.filter((card) => card.parent)]];
  select.replaceChildren(...groups.filter(([, cards]) => cards.length).map(([label, cards]) => {
    const group = make("optgroup");
    group.label = label;
    group.append(...cards.map((card) => new Option(card.id, card.id)));
    return group;
  }));
  select.disabled = list.length === 0;
  if (list.some((card) => card.id === before)) select.value = before;
  element("welcome-model").textContent = select.value || "the model";
  fit();
}

function askForKey() {
  openPanel(true);
  element("key").focus();
}

function openPanel(is) {
  document.body.classList.toggle("panel", is);
  element("toggle-panel").setAttribute("aria-expanded", String(is));
}

// ---- load

const history = { throughput: [], running: [], waiting: [], cache: [] };
let known = null; // the state before, with the time it was asked at
let names = null; // adapters, as they were when the models were listed

async function look() {
  try {
    const state = await (await call("stats", { signal: AbortSignal.timeout(5_000) })).json();
    const adapters = JSON.stringify(state.adapters);
    if (names !== adapters) {
      await loadModels();
      names = adapters;
    }
    note(state, performance.now() / 1000);
    const all = state.replicas_ready === state.replicas;
    say(all ? "ready" : "waiting", all ? "ready" : `${state.replicas_ready} of ${state.replicas} engines ready`);
  } catch (error) {
    known = names = null;
    say("bad", error.status === 401 || error.status === 403 ? "needs an API key" : error.status ? error.message : "no connection");
  }
}

function say(state, text) {
  const status = element("status");
  if (status.dataset.state === state && status.textContent === text) return;
  status.dataset.state = state;
  status.firstElementChild.textContent = text;
}

function note(state, now) {
  const before = known;
  known = { state, now };
  if (!before) return; // a speed needs two looks
  const made = Math.max(0, state.generated_tokens - before.state.generated_tokens); // less when the router is new
  const speed = made / (now - before.now);
  for (const [name, value] of Object.entries({ throughput: speed, running: state.running, waiting: state.waiting, cache: 100 * state.kv_usage })) {
    history[name].push(value);
    if (history[name].length > SAMPLES) history[name].shift();
  }
  draw("throughput", [history.throughput], 10, [[round(speed), " tokens/s"]]);
  draw("requests", [history.running, history.waiting], 4, [[state.running, " running, ", "key"], [state.waiting, " waiting", "key second"]]);
  draw("cache", [history.cache], 100, [[(100 * state.kv_usage).toFixed(1), " %"]]);
  const version = state.version ? ` · weights ${state.version}` : "";
  element("facts").textContent = `${state.finished.toLocaleString("en")} requests and ${state.generated_tokens.toLocaleString("en")} tokens in ${span(state.uptime)}${version}`;
}

function draw(id, series, least, values) {
  const chart = element(id);
  const top = Math.max(least, ...series.flat()) * 1.05;
  const point = (value, index, all) => `${(SAMPLES - all.length + index + 1).toFixed(1)},${(40 - (40 * value) / top).toFixed(2)}`;
  chart.querySelectorAll(".line").forEach((path, index) => path.setAttribute("d", `M${series[index].map(point).join("L")}`));
  const [first] = series;
  const outline = `M${SAMPLES - first.length + 1},40L${first.map(point).join("L")}L${SAMPLES},40Z`;
  chart.querySelector(".area").setAttribute("d", outline);
  chart.querySelector("output").replaceChildren(...values.flatMap(([value, unit, kind]) => [make("span", kind ?? "", String(value)), make("small", "", unit)]));
}

function span(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

async function watch() {
  for (;;) {
    if (document.visibilityState === "visible") await look();
    else known = null; // no speed over the time in which nobody looked
    await new Promise((after) => {
      setTimeout(after, 1000);
    });
  }
}

// ---- begin

element("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
element("text").addEventListener("input", fit);
element("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
element("stop").addEventListener("click", () => running?.abort());
element("new-chat").addEventListener("click", () => {
  running?.abort();
  conversation = [];
  element("log").replaceChildren();
  element("welcome").hidden = false;
  element("text").focus();
});
element("toggle-panel").addEventListener("click", () => openPanel(!document.body.classList.contains("panel")));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") openPanel(false);
});
document.querySelector(".examples").addEventListener("click", (event) => {
  if (event.target.localName !== "button") return;
  element("text").value = event.target.textContent;
  send();
});
element("model").addEventListener("change", () => {
  element("welcome-model").textContent = element("model").value;
});
element("temperature").addEventListener("input", () => {
  element("temperature-value").textContent = element("temperature").value;
});
element("settings").addEventListener("submit", (event) => event.preventDefault());
element("key").value = sessionStorage.getItem(KEY) ?? "";
element("key").addEventListener("change", () => {
  sessionStorage.setItem(KEY, element("key").value.trim());
  look();
});
fit();
watch();
