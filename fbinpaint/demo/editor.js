// The page's part of the editor; Gradio runs it after painter.js with `element`, `trigger`, `props`, `upload`, `watch`.
//
// What the server says is `props.value.view` (shared.py builds it). What it is asked is `props.value.request`, with
// all that the visitor has drawn and chosen; then "ask" or "restore" is triggered.

const find = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];
const editor = find(".editor");
const tool = { name: "brush", size: 8, label: 0, colour: "#000", busy: () => restoring, paints: (p) => p === map };
const photo = new Painter(find("#photo"), tool, marksChanged, (at) => ask("pick", { at }));
const map = new Painter(find("#map"), tool, strokesChanged, pickClass);
const masks = new Map(); // pictures of the masks that the server keeps, by name
const allowed = new Set(), unwanted = new Set(); // classes that may come back although marked; must not although not
let view = { revision: 0, classes: [], examples: [], history: [] };
let restoring = false, waiting = null, asked = 0;
let chosen = 0; // how often another photo was chosen, or none
let asking = null; // the question that waits for its answer
const heard = {}; // the last answer before a question, and before a restoration
const questions = []; // that follow

const address = (path) => `${window.gradio_config?.root ?? ""}/gradio_api/file=${encodeURI(path)}`;

// ---------------------------------------------------------------- talking to the server

function drawing() {
  const plain = ({ image, colour, ...stroke }) => stroke;
  const settings = Object.fromEntries(
    all("[data-setting]").map((x) => [x.dataset.setting, x.type === "checkbox" ? x.checked : Number(x.value)]),
  );
  const classes = { forbidden: forbidden(), allowed: [...allowed] };
  return { marks: photo.strokes.map(plain), strokes: map.strokes.map(plain), ...classes, settings };
}

// One question at a time, so that each answer meets the page that asked. Of some kinds only the last one counts.
const OF_PAGE = ["open", "example", "close", "resume"], LAST_COUNTS = [...OF_PAGE, "model", "preview", "go", "download"];
function ask(kind, details = {}) {
  if (OF_PAGE.includes(kind)) chosen++;
  const repeats = (question) => question.kind === kind && question.format === details.format; // photo and map are two
  const repeated = LAST_COUNTS.includes(kind) ? questions.findIndex(repeats) : -1;
  if (repeated >= 0) questions.splice(repeated, 1);
  questions.push({ kind, ...details });
  next();
}

function next() {
  if (waiting !== null || !questions.length) return;
  asking = questions.shift();
  const value = { request: { id: asked + 1, ...asking }, drawing: drawing() };
  if (OF_PAGE.includes(asking.kind)) Object.assign(value.drawing, { marks: [], strokes: [] }); // they mean none of it
  if (tooLarge(value)) return void ((asking = null), say(TOO_LARGE, "error"), next());
  waiting = ++asked;
  heard.ask = view.revision;
  editor.ariaBusy = true;
  props.value = value;
  trigger("ask");
  patience(waiting, 60, () => {
    waiting = asking = null;
    say("The server does not answer; try again, or reload the page.", "error");
    refresh();
    next();
  });
}

// The server refuses what is longer or has more lists and objects (gate.py), and Gradio hides what it says of it.
const MOST = { letters: 1_950_000, parts: 59_000 };
const TOO_LARGE = "You have drawn more than can be sent: undo some of it, and restore the photo part by part.";
function tooLarge(value) {
  const text = JSON.stringify(value);
  return text.length > MOST.letters || (text.match(/[[{]/g)?.length ?? 0) > MOST.parts;
}

// Where the connection broke there may be no answer and no end: the page is not to wait for ever without a word.
function patience(id, seconds, late) {
  const heard = view.revision;
  setTimeout(() => {
    if (id !== restoring && id !== waiting) return;
    if (view.revision !== heard) return patience(id, seconds, late);
    late();
  }, 1000 * seconds);
}

function restore() {
  if (restoring || editor.dataset.state === "empty") return;
  say("Restoring …"); // at once: the map of a large photo may be on its way for long
  if (waiting !== null || questions.length) return void setTimeout(restore, 100);
  photo.cancel();
  map.cancel();
  const { session, model } = view;
  const value = { request: { id: asked + 1, kind: "restore", session, model }, drawing: drawing() };
  if (tooLarge(value)) return say(TOO_LARGE, "error");
  restoring = ++asked;
  heard.restore = view.revision;
  refresh();
  props.value = value;
  trigger("restore");
  // The queue can be longer: what is drawn until its turn comes would go when the result is there.
  const still = "This still waits, perhaps for others; if nothing comes, reload the page: your drawing stays.";
  patience(restoring, 300, () => say(still));
}

// Gradio's end of a question, answered or not: nothing may wait for ever. The next one follows when the answer, which
// Gradio hands on a moment later, is taken in with its pictures: it is of what the visitor then sees.
document.addEventListener("fbinpaint-end", ({ detail }) => setTimeout(() => received.then(() => ended(detail))));

function ended(kind) {
  if (view.revision === heard[kind]) say("The server did not take this, perhaps because too many wait; try again in a minute.", "error");
  heard[kind] = null;
  if (kind === "restore") restoring = false;
  else waiting = asking = null;
  editor.ariaBusy = waiting !== null;
  refresh();
  next();
}

// Of what the server refuses to take, a full queue or too long a request, Gradio 6.31 tells no end.
new PerformanceObserver((list) => {
  for (const { name, responseStatus } of list.getEntries()) {
    const kind = /\/queue\/join/.test(name) ? "restore" : /\/run\/predict/.test(name) && "ask";
    if (kind && responseStatus >= 400 && view.revision === heard[kind]) ended(kind);
  }
}).observe({ type: "resource" });

let received = Promise.resolve(); // one answer after the other
const receive = (news) => (received = received.then(() => take(news)).catch((error) => console.error(error)));
watch("value", () => props.value?.view && receive(props.value.view));

async function take(news) {
  if (news.revision <= view.revision) return;
  const [before, old] = [view.photo, view];
  view = { ...news };
  if (news.session !== old.session) {
    allowed.clear();
    unwanted.clear();
    for (const painter of [photo, map]) {
      painter.cancel();
      painter.set([]);
      painter.load(""); // the pictures of the photo before can be painted on no more, however slowly the next ones come
    }
    for (const input of all("#hole [data-setting]")) {
      if (input.type === "checkbox") input.checked = false;
      else input.value = input.nextElementSibling.value = 0;
    }
    questions.splice(0, Infinity, ...questions.filter(({ kind }) => OF_PAGE.includes(kind))); // others meant the old photo
  }
  editor.dataset.state = view.photo ? "open" : "empty";
  find(".original img").src = view.original ? address(view.original) : "";
  map.load(view.map ? address(view.map) : "");
  photo.load(view.photo ? address(view.photo) : "");
  if (news.message) say(news.message.text, news.message.kind);
  const resumed = Boolean(news.settings); // the strokes are the visitor's own
  if (news.marks) {
    await Promise.all(news.marks.map(loadMask));
    photo.set(news.marks, resumed);
    const tags = new Set(news.marks.map((mark) => mark.tag).filter((tag) => tag !== undefined));
    allowed.clear();
    if (news.forbidden) {
      unwanted.clear();
      for (const tag of tags) if (!news.forbidden.includes(tag)) allowed.add(tag);
      for (const label of news.forbidden) if (!tags.has(label)) unwanted.add(label);
    }
  }
  for (const [name, value] of Object.entries(news.settings ?? {})) {
    const input = find(`[data-setting="${name}"]`);
    if (input.type === "checkbox") input.checked = value;
    else input.value = input.nextElementSibling.value = value;
  }
  if (news.choose !== undefined) choose(news.choose);
  if (news.strokes) map.set(news.strokes.map((x) => ({ ...x, colour: view.classes[x.label]?.colour })), resumed);
  if (news.add) {
    await loadMask(news.add);
    allowed.delete(news.add.tag);
    photo.add(news.add);
  }
  if (news.download) {
    const link = Object.assign(document.createElement("a"), { href: address(news.download.path), download: news.download.name });
    link.click();
  }
  if (news.preview || before !== view.photo) showPreview(news.preview);
  refresh();
  if (news.marks) preview();
  const focused = document.activeElement;
  if (news.session !== old.session && (focused === document.body || !focused.checkVisibility()))
    find(view.photo ? "#photo" : ".choose").focus({ preventScroll: true }); // what was pressed is out of sight
  if (kept && view.session) {
    kept = null;
    keep();
  }
  if (news.ask) ask(news.ask);
  if (view.photo && before !== view.photo) {
    bringIntoSight(find("#photo"));
    bringVersionIntoSight();
  }
}

// A picture that was drawn on the server: it travels as a file of its own.
async function loadMask(stroke) {
  if (stroke.kind !== "mask") return;
  if (!masks.has(stroke.mask)) {
    const picture = new Image();
    picture.src = address(stroke.url);
    masks.set(stroke.mask, picture);
  }
  stroke.image = masks.get(stroke.mask);
  await stroke.image.decode().catch(() => masks.delete(stroke.mask)); // to be asked for anew
}

const LATER = "Another photo can be opened when this restoration is done.";
const LATER_MODEL = "Another model can be chosen when this restoration is done.";
async function open(file) {
  if (restoring) return say(LATER);
  say(`Opening ${file.name || "the photo"} …`);
  const turn = ++chosen;
  const uploaded = await sent(file);
  if (turn !== chosen) return; // another one was chosen while this was on its way
  if (restoring) return say(LATER);
  if (uploaded) ask("open", uploaded);
}

async function openMask(file) {
  const { session } = view;
  const uploaded = !restoring && (await sent(file));
  if (uploaded && session === view.session) ask("mask", uploaded);
}

async function sent(file) {
  const megabytes = Math.ceil(file.size / 1e6);
  if (megabytes > 100) return void say(`${file.name}: is ${megabytes} MB; files of up to 100 MB can be sent.`, "error");
  try {
    const { path } = await upload(file);
    return { path, name: file.name || "photo.png" };
  } catch (error) {
    say(`${file.name}: could not be sent (${error.message}); try again, with a file of up to 100 MB.`, "error");
  }
}

// ---------------------------------------------------------------- what is shown

// In the line below the photo, or in the one where a photo can be dropped: one of them is in sight.
function say(text, kind = "info") {
  for (const line of all(".message")) {
    if (line.textContent !== text) line.textContent = text; // screen readers read out what is written, even the same
    line.dataset.kind = kind;
  }
}

function bringIntoSight(part) {
  const { top, bottom } = part.getBoundingClientRect();
  if (top < 0 || bottom > window.innerHeight) part.scrollIntoView({ block: top < 0 ? "start" : "nearest" });
}

// The row of results can be longer than the page is wide. Its pictures have no width until they are there.
function bringVersionIntoSight() {
  const row = find(".history"), version = row.children[view.at];
  if (version) row.scrollLeft = version.offsetLeft - (row.clientWidth - version.offsetWidth) / 2;
}

function showPreview(url) {
  const picture = find(".preview");
  picture.hidden = !url;
  if (url) picture.src = address(url);
}

// Fills a part of the page anew where what it shows has changed. The keyboard's focus stays where it was in it.
const shown = new WeakMap();
function fill(part, content, make) {
  const now = JSON.stringify(content);
  if (shown.get(part) === now) return;
  shown.set(part, now);
  const place = controls(part).indexOf(document.activeElement);
  part.querySelectorAll(":scope > [data-filled]").forEach((x) => x.remove());
  for (const item of content) {
    const made = make(item);
    made.dataset.filled = "";
    part.append(made);
  }
  if (place >= 0) (controls(part)[place] ?? controls(part).at(-1))?.focus();
}

// A button that does nothing now keeps the focus; `disabled` would lose it.
function enable(selector, on) {
  for (const button of all(selector)) button.ariaDisabled = !on;
}

function make(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function swatch(colour) {
  const made = make("i", { className: "swatch" });
  made.style.background = colour;
  return made;
}

function refresh() {
  const { classes, history } = view;
  const tags = new Set(photo.strokes.map((stroke) => stroke.tag).filter((tag) => tag !== undefined));
  editor.toggleAttribute("data-restoring", restoring);
  enable("[data-do=restore]", !restoring);
  enable("#undo", !restoring && (view.at || photo.done.length || map.done.length));
  enable("#redo", !restoring && (view.at < history.length - 1 || photo.undone.length || map.undone.length));
  enable("#compare", view.at);
  fill(find(".examples"), view.examples, (example) =>
    make("button", { type: "button", title: example.label, onclick: () => ask("example", { index: example.index }) },
      make("img", { src: address(example.thumb), alt: example.label })));
  fill(find(".things"), (view.shown ?? []).map((label) => [label, classes[label]]), ([label, { name, colour }]) =>
    make("button", { type: "button", value: label, onclick: () => toggle(label), title: `Mark all: ${name}` },
      swatch(colour), name));
  for (const thing of all(".things button")) thing.ariaPressed = tags.has(Number(thing.value));
  find(".things").hidden = !view.shown?.length;
  fill(find(".forbidden"), forbidden().map((label) => [label, classes[label]]), ([label, { name, colour }]) =>
    make("button", { type: "button", title: `${name} may come back`, onclick: () => allow(label) }, swatch(colour), `${name} ✕`));
  find(".forbidden").hidden = !classes.length;
  fill(find(".forbid"), classes.map(({ name }) => name), (name) =>
    make("option", { value: classes.findIndex((x) => x.name === name), textContent: name }));
  fill(find(".classes"), classes, ({ name, colour }) => {
    const label = classes.findIndex((x) => x.name === name);
    const radio = make("input", { type: "radio", name: "class", value: label, onchange: () => choose(label) });
    return make("label", {}, radio, swatch(colour), name);
  });
  choose(Math.max(0, classes.findIndex(({ name }) => name === tool.class)));
  fill(find(".model"), view.models ?? [], ({ name, label }) => {
    const onchange = () => (restoring ? (say(LATER_MODEL), refresh()) : ask("model", { model: name }));
    const radio = make("input", { type: "radio", name: "model", value: name, onchange });
    return make("label", {}, radio, label);
  });
  const model = find(`.model input[value="${CSS.escape(view.model ?? "")}"]`);
  if (model) model.checked = true;
  find(".model").hidden = (view.models ?? []).length < 2;
  find(".format option").textContent = view.format ? `as it came (${view.format})` : "as it came";
  fill(find(".history"), history.map((version, index) => ({ ...version, index })), ({ thumb, label, index }) =>
    make("li", {}, make("button", { type: "button", title: label, onclick: () => go(index) },
      make("img", { src: address(thumb), alt: label, onload: bringVersionIntoSight }))));
  all(".history button").forEach((version, index) => (version.ariaCurrent = index === view.at));
  find(".history").hidden = history.length < 2;
}

function choose(label) {
  const picked = view.classes[label];
  if (!picked) return;
  Object.assign(tool, { label, class: picked.name, colour: picked.colour });
  const radio = find(`.classes input[value="${label}"]`);
  if (radio) radio.checked = true;
}

// ---------------------------------------------------------------- what visitors do

function forbidden() {
  const tags = photo.strokes.filter((stroke) => stroke.tag !== undefined && !allowed.has(stroke.tag));
  return [...new Set([...tags.map((stroke) => stroke.tag), ...unwanted])].sort((a, b) => a - b);
}

function allow(label) {
  unwanted.delete(label);
  allowed.add(label);
  refresh();
}

function forbid(label) {
  allowed.delete(label);
  unwanted.add(label);
  refresh();
}

// All things of a class, or none of them.
function toggle(label) {
  if (restoring || [...questions, asking].some((x) => x?.kind === "class" && x.label === label)) return; // a double click
  if (photo.strokes.some((stroke) => stroke.tag === label)) photo.drop(label);
  else ask("class", { label });
}

function pickClass([x, y]) {
  ask("look", { at: [x, y] }); // on the map, a click takes up the class that is there
}

function marksChanged() {
  showPreview(null);
  refresh();
  preview();
}

function strokesChanged() {
  refresh();
}

function preview() {
  const { grow, feather, invert } = drawing().settings;
  if (photo.strokes.length && (grow || feather || invert)) ask("preview");
  else showPreview(null);
}

function go(index) {
  if (!restoring && index >= 0 && index < view.history.length && index !== heading()) ask("go", { index });
}

// Where in the row the visitor will be: who presses undo twice before the first answer is there means two steps.
function heading() {
  return [...questions, asking].find((question) => question?.kind === "go")?.index ?? view.at;
}

function undo() {
  if (restoring) return;
  (map.latest > photo.latest ? map : photo).undo() || go(heading() - 1);
}

function redo() {
  if (restoring) return;
  (map.following < photo.following ? map : photo).redo() || go(heading() + 1);
}

function compare(on) {
  editor.toggleAttribute("data-original", on && Boolean(view.original));
}

const actions = {
  restore,
  undo,
  redo,
  clear: () => photo.clear(),
  "clear-map": () => map.clear(),
  close: () => (restoring ? say(LATER) : ask("close")),
  random: () => restoring || ask("random"),
  download: () => ask("download", { format: find(".format").value }),
  "download-map": () => ask("download", { format: "map" }),
  help: () => {
    const keys = find(".keys");
    keys.hidden = !keys.hidden;
    find("[data-do=help]").ariaExpanded = !keys.hidden;
  },
};
for (const button of all("[data-do]")) button.addEventListener("click", () => actions[button.dataset.do]?.());

function hold(name) {
  tool.name = name;
  for (const button of all("[data-tool]")) button.ariaPressed = button.dataset.tool === name;
}
for (const button of all("[data-tool]")) button.addEventListener("click", () => hold(button.dataset.tool));

function resize(size) {
  const slider = find(".brush-size");
  slider.value = size;
  tool.size = Number(slider.value);
  slider.nextElementSibling.value = `${tool.size} %`;
  for (const painter of [photo, map]) painter.show(painter.at);
}
find(".brush-size").addEventListener("input", (event) => resize(event.target.value));

for (const input of all("[data-setting]")) {
  input.addEventListener("input", () => input.type === "range" && (input.nextElementSibling.value = input.value));
  input.addEventListener("change", preview);
}
find(".choose").addEventListener("change", (event) => {
  if (event.target.files.length) open(event.target.files[0]);
  event.target.value = ""; // the same file can be chosen again
});
find(".mask").addEventListener("change", (event) => {
  if (event.target.files.length) openMask(event.target.files[0]);
  event.target.value = "";
});
find(".forbid").addEventListener("change", (event) => {
  if (event.target.value !== "") forbid(Number(event.target.value));
  event.target.value = "";
});

// A key would choose the next class at once, on the way to the one that is meant: it opens the list.
find(".forbid").addEventListener("keydown", (event) => {
  if (!["ArrowDown", "ArrowUp"].includes(event.key) || !event.target.showPicker) return;
  event.preventDefault();
  event.target.showPicker();
});

const button = find("#compare");
for (const kind of ["pointerdown", "keydown"]) {
  button.addEventListener(kind, (event) => (kind === "pointerdown" || " Enter".includes(event.key)) && compare(true));
}
for (const kind of ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"]) button.addEventListener(kind, () => compare(false));

editor.addEventListener("dragstart", (event) => event.preventDefault()); // a hand that slips presses the button all the same

// Photos can be dropped and pasted anywhere on the page, but a mask is dropped where it can be chosen.
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const { files } = event.dataTransfer;
  if (files.length === 1) (find(".file").contains(event.target) ? openMask : open)(files[0]);
  else say(files.length ? `These are ${files.length} files: drop one photo.` : "That is no file: drop a photo.", "error");
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  const file = files.find(({ type }) => type.startsWith("image/")) ?? files[0]; // not every system knows JPEG 2000
  if (file) open(file);
});

// ---------------------------------------------------------------- keys

const typing = (target) => target.matches?.("input:not([type=range], [type=radio], [type=checkbox]), textarea, select, [contenteditable]");
function controls(part) {
  const found = part.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']");
  return [...found].filter((x) => !x.disabled && x.checkVisibility() && x.tabIndex >= 0);
}
let tab = null; // since when Tab is held where it shows the original

document.addEventListener("keydown", (event) => {
  const third = event.getModifierState("AltGraph"); // [ and ] on many keyboards; Windows calls it Ctrl+Alt
  if (editor.dataset.state === "empty" || typing(event.target) || (event.altKey && !third)) return;
  const command = (event.ctrlKey || event.metaKey) && !third;
  const key = event.key.toLowerCase();
  const free = event.target === document.body || event.target === photo.root || event.target === map.root;
  if (command && key === "z") event.shiftKey ? redo() : undo();
  else if (command && key === "y") redo();
  else if (command) return;
  else if (key === "tab" && free && !event.shiftKey) {
    // Held, it shows the original; tapped, it moves on as everywhere, when it is let go.
    tab ??= { since: event.timeStamp, from: event.target };
    compare(true);
  } else if (key === "enter" && free) restore();
  else if (key === "escape") [photo, map].forEach((painter) => painter.cancel());
  else if (key === "[" || key === "]") resize(tool.size + (key === "[" ? -1 : 1) * Math.max(1, Math.round(tool.size / 8)));
  else if (key === "?") actions.help();
  else if ("belrc".includes(key) && key.length === 1 && !event.target.matches("input"))
    hold({ b: "brush", e: "eraser", l: "lasso", r: "box", c: "pick" }[key]);
  else return;
  event.preventDefault();
});
document.addEventListener("keyup", (event) => {
  if (event.key !== "Tab" || !tab) return;
  compare(false);
  if (event.timeStamp - tab.since < 300) {
    const parts = controls(document).filter((x) => x.type !== "radio" || x.checked);
    parts[(parts.indexOf(tab.from) + 1) % parts.length]?.focus();
  }
  tab = null;
});
window.addEventListener("blur", () => {
  tab = null;
  compare(false);
});

// A page that is loaded anew goes on where it was left: Gradio 6.31 loads it after every break of the connection.
if (props.value?.view) receive(props.value.view);
const KEPT = "fbinpaint-visit"; // in the tab's own memory
let kept = JSON.parse(memory()?.getItem(KEPT) ?? "null"); // it stays there until the page shows it
if (kept) ask("resume", kept);

// A page out of sight may be ended without a word; one in sight keeps nothing, or a copy of its tab would take the visit.
function keep(leaving = document.hidden) {
  if (kept || !view.session) return;
  if (leaving) memory()?.setItem(KEPT, JSON.stringify({ session: view.session, left: drawing() }));
  else memory()?.removeItem(KEPT);
}
window.addEventListener("pagehide", () => keep(true));
document.addEventListener("visibilitychange", () => keep());

function memory() {
  try {
    return sessionStorage;
  } catch {
    return null; // the browser refuses it to a page in a frame of another site
  }
}
