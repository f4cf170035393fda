"use strict";
const FADE = 0.01; // seconds of a switch: too short to be a gap, too long to be a click

/* All sounds of a page run together from one start; a switch only turns one up and another down. */
class Player {
  constructor(context, lead = 0.03) {
    this.context = context; this.lead = lead; // lead: every source is ready before the first sample is due
    this.tracks = new Map(); this.sources = []; this.current = null;
    this.playing = false; this.offset = 0; this.startedAt = 0; this.loop = [0, 0];
  }
  add(name, buffer) {
    const gain = this.context.createGain();
    gain.gain.value = 0;
    gain.connect(this.context.destination);
    this.tracks.set(name, { buffer, gain });
    this.loop = [0, Math.max(this.loop[1], buffer.duration)];
  }
  play() {
    if (this.playing) return;
    this.startedAt = this.context.currentTime + this.lead;
    for (const { buffer, gain } of this.tracks.values()) {
      const source = this.context.createBufferSource();
      Object.assign(source, { buffer, loop: true, loopStart: this.loop[0], loopEnd: this.loop[1] });
      source.connect(gain);
      source.start(this.startedAt, this.offset);
      this.sources.push(source);
    }
    this.playing = true;
  }
  pause() {
    this.offset = this.position();
    for (const source of this.sources) { source.stop(); source.disconnect(); }
    this.sources = []; this.playing = false;
  }
  position() {
    if (!this.playing) return this.offset;
    const [from, to] = this.loop;
    const at = this.offset + Math.max(0, this.context.currentTime - this.startedAt);
    return at < to ? at : from + (at - from) % (to - from);
  }
  select(name) {
    const now = this.context.currentTime;
    for (const [key, { gain }] of this.tracks) {
      gain.gain.cancelScheduledValues(now);
      gain.gain.setValueAtTime(gain.gain.value, now);
      gain.gain.linearRampToValueAtTime(key === name ? 1 : 0, now + FADE);
    }
    this.current = name;
  }
  repeat(from, to) {
    const at = this.position(), was = this.playing;
    if (was) this.pause();
    this.loop = [from, to];
    this.offset = at >= from && at < to ? at : from;
    if (was) this.play();
  }
}

const $ = (id) => document.getElementById(id);
const WORDS = ["bad", "poor", "fair", "good", "excellent"];
const word = (score) => WORDS[Math.min(4, Math.floor(score / 20))];
const seconds = (value) => value.toFixed(1) + " s";
let study, rater, context, player = null, trial = null, heard = new Set(), scores = {}, buttons = new Map(), example = null;

async function ask(path, body) {
  const options = body === undefined ? {} :
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try { response = await fetch(path, options); }
  catch { throw new Error("The server does not answer. Nothing is lost: keep this page open and try again."); }
  const data = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(data.error || "The server answered " + response.status + "."), { status: response.status });
  return data;
}
function say(error) { $("error").textContent = error ? error.message : ""; $("error").hidden = !error; }
function show(section) {
  for (const id of ["begin", "trial", "thanks"]) $(id).hidden = id !== section;
  window.scrollTo(0, 0);
  $(section).querySelector("h2").focus();
}

async function begin() {
  study = await ask("api/study");
  document.title = $("title").textContent = study.title;
  const rules = ["Use headphones in a quiet room, set a comfortable volume on the first page, then leave it.",
    "Each page asks for one sound out of a recording. The mixture is the recording it was asked out of."];
  if (study.kind === "mushra") rules.push(
    "The reference is the sound asked for, as it should be. Rate how near each numbered sound comes to it, from 0 (bad) to 100 (excellent).",
    "One of the numbered sounds is the reference itself: at least one deserves 100. Other sounds left in, missing parts and harshness all count.");
  else rules.push("Hear A and B, and say which of the two is nearer to the sound asked for, or that neither is.");
  rules.push("You may switch at any moment, as often as you like, and repeat a part. All sounds are equally loud.");
  for (const rule of rules) $("rules").appendChild(document.createElement("li")).textContent = rule;
  $("rater").value = localStorage.getItem("rater") || "";
}

async function load(name, url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error("A sound could not be loaded. Load the page again.");
  player.add(name, await context.decodeAudioData(await response.arrayBuffer()));
}

async function next() {
  $("trial").setAttribute("aria-busy", "true");
  stop();
  if (player) for (const { gain } of player.tracks.values()) gain.disconnect();
  const answer = await ask("api/raters/" + encodeURIComponent(rater) + "/next");
  if (answer.done) return finish();
  trial = answer.trial; heard = new Set(); scores = {}; buttons = new Map();
  player = new Player(context);
  $("overall").hidden = false;
  $("count").textContent = "Page " + trial.number + " of " + trial.total;
  $("done").max = trial.total; $("done").value = trial.number - 1;
  $("text").textContent = "“" + trial.text + "”";
  $("picture").hidden = !trial.picture;
  if (trial.picture) $("picture").src = trial.picture;
  $("example").hidden = !trial.sound;
  example = null;
  for (const radio of document.getElementsByName("choice")) radio.checked = false;
  $("mushra").hidden = study.kind !== "mushra"; $("ab").hidden = study.kind !== "ab";
  $("reference").hidden = !trial.reference;
  $("question").textContent = "Which of the two is nearer to the sound asked for: “" + trial.text + "”?";
  $("keys").textContent = (study.kind === "mushra" ? "Keys: 1 to " + trial.stimuli.length + " play a sound and go to its slider, arrows move it, R reference, " : "Keys: A and B play, ")
    + "M mixture, Space play and pause.";
  buttons.set("mixture", $("mixture"));
  if (trial.reference) buttons.set("reference", $("reference"));
  (study.kind === "mushra" ? drawRows : drawPair)();
  for (const [name, button] of buttons) button.onclick = () => choose(name);
  show("trial");
  check();
  $("missing").textContent = "Loading the sounds …";
  for (const button of [...buttons.values(), $("play")]) button.disabled = true;
  const loads = trial.stimuli.map((one) => load(one.id, one.url));
  loads.push(load("mixture", trial.mixture));
  if (trial.reference) loads.push(load("reference", trial.reference));
  await Promise.all(loads);
  for (const button of [...buttons.values(), $("play")]) button.disabled = false;
  for (const id of ["from", "to"]) { $(id).max = trial.seconds; $(id).value = id === "to" ? trial.seconds : 0; }
  repeat();
  player.select(trial.reference ? "reference" : "mixture");
  draw();
  check();
  $("trial").setAttribute("aria-busy", "false");
}

function drawRows() {
  $("rows").replaceChildren(...trial.stimuli.map((one, index) => {
    const name = "Sound " + (index + 1), row = document.createElement("div");
    row.className = "row open";
    row.innerHTML = '<button type="button" aria-pressed="false"></button><div class="scale"><input type="range" min="0" max="100" step="1" value="50"></div><output>not rated</output>';
    const [button, scale, output] = row.children, slider = scale.firstChild;
    button.append(name);
    if (index < 9) {
      button.insertAdjacentHTML("beforeend", '<kbd aria-hidden="true">' + (index + 1) + "</kbd>");
      button.setAttribute("aria-keyshortcuts", index + 1);
    }
    slider.setAttribute("aria-label", "Score of sound " + (index + 1) + ", 0 to 100");
    slider.setAttribute("aria-valuetext", "not rated");
    const rate = () => {
      scores[one.id] = Number(slider.value);
      row.classList.remove("open");
      output.textContent = slider.value + " " + word(scores[one.id]);
      slider.setAttribute("aria-valuetext", output.textContent);
      check();
    };
    slider.addEventListener("input", rate);
    slider.addEventListener("pointerup", rate); // a score of exactly 50 moves nothing
    slider.addEventListener("keydown", (event) => { if (event.key === "Enter") rate(); });
    buttons.set(one.id, button);
    return row;
  }));
}

function drawPair() {
  $("pair").replaceChildren(...trial.stimuli.map((one, index) => {
    const button = document.createElement("button"), name = "AB"[index];
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-keyshortcuts", name);
    button.append("Hear " + name);
    buttons.set(one.id, button);
    return button;
  }));
}

function choose(name) {
  stopExample();
  if (player.playing && player.current === name) { player.pause(); return draw(); }
  player.select(name);
  player.play();
  heard.add(name);
  draw();
  check();
}
function toggle() {
  stopExample();
  if (player.playing) player.pause(); else { player.play(); heard.add(player.current); }
  draw();
  check();
}
function stop() { stopExample(); if (player && player.playing) player.pause(); }
function stopExample() { if (example) example.stop(); example = null; $("example").setAttribute("aria-pressed", "false"); }
async function playExample() {
  if (example) return stopExample();
  if (player.playing) player.pause();
  draw();
  const source = context.createBufferSource();
  let started = false;
  example = { stop: () => { if (started) source.stop(); } };
  $("example").setAttribute("aria-pressed", "true");
  const mine = example;
  source.buffer = await context.decodeAudioData(await (await fetch(trial.sound)).arrayBuffer());
  if (example !== mine) return;
  source.onended = () => { if (example === mine) { example = null; $("example").setAttribute("aria-pressed", "false"); } };
  source.connect(context.destination);
  source.start();
  started = true;
}

function draw() {
  for (const [name, button] of buttons) {
    button.setAttribute("aria-pressed", String(player.playing && player.current === name));
    button.classList.toggle("heard", heard.has(name));
  }
  $("play").firstChild.textContent = player.playing ? "Pause " : "Play ";
}
function tick() {
  if (trial && player) {
    const [from, to] = player.loop, at = player.position();
    $("where").max = Math.max(trial.seconds, 0.001); $("where").value = at;
    $("time").textContent = at.toFixed(1) + " / " + seconds(trial.seconds);
  }
  requestAnimationFrame(tick);
}
function repeat(moved) {
  const least = Math.min(0.5, trial.seconds);
  let from = Number($("from").value), to = Number($("to").value);
  if (to >= trial.seconds - 0.05) to = trial.seconds; // a step of the slider may end before the sound does
  if (to - from < least) { if (moved === "from") from = Math.max(0, to - least); else to = Math.min(trial.seconds, from + least); }
  if (to - from < least) from = to - least;
  $("from").value = from; $("to").value = to;
  $("fromtime").textContent = seconds(from); $("totime").textContent = seconds(to);
  player.repeat(from, to);
}

function choice() { return [...document.getElementsByName("choice")].find((radio) => radio.checked)?.value; }
function check() {
  const unheard = trial.stimuli.filter((one) => !heard.has(one.id)).length, missing = [];
  const unrated = study.kind === "mushra" ? trial.stimuli.filter((one) => !(one.id in scores)).length : Number(!choice());
  if (unheard) missing.push(unheard + (unheard > 1 ? " sounds" : " sound") + " to hear");
  if (unrated) missing.push(study.kind === "mushra" ? unrated + " to rate" : "a choice to make");
  $("missing").textContent = missing.length ? "Still " + missing.join(" and ") + "." : "Ready to save.";
  $("save").disabled = missing.length > 0;
}

async function save() {
  $("save").disabled = true;
  const body = { rater, trial: trial.trial };
  if (study.kind === "mushra") body.scores = scores; else body.choice = choice();
  try { await ask("api/answers", body); }
  catch (error) { if (error.status !== 409) { $("save").disabled = false; throw error; } } // answered in another tab
  await next();
}
function finish() {
  trial = null;
  $("overall").hidden = true;
  $("summary").textContent = "All pages are answered and saved. You may close this page.";
  show("thanks");
}
const guarded = (action) => async (event) => { event?.preventDefault(); say(null); try { await action(event); } catch (error) { say(error); } };

$("join").onsubmit = guarded(async () => {
  context = context || new AudioContext(); // browsers allow sound only after a click
  context.resume(); // not awaited: without an output device it never settles, and the page still works
  rater = $("rater").value.trim();
  await ask("api/raters", { rater });
  localStorage.setItem("rater", rater);
  await next();
});
$("play").onclick = toggle;
$("example").onclick = guarded(playExample);
$("save").onclick = guarded(save);
$("from").oninput = () => repeat("from");
$("to").oninput = () => repeat("to");
for (const radio of document.getElementsByName("choice")) radio.onchange = check;
document.addEventListener("keydown", (event) => {
  const target = event.target, key = event.key.toLowerCase();
  if (!trial || $("play").disabled || event.ctrlKey || event.altKey || event.metaKey || target.type === "text") return;
  const rank = Number(key) - 1, named = { r: "reference", m: "mixture" }[key];
  if (key === " " && !["BUTTON", "SUMMARY"].includes(target.tagName) && target.type !== "radio") { event.preventDefault(); toggle(); }
  else if (named && buttons.has(named)) choose(named);
  else if (study.kind === "ab" && (key === "a" || key === "b")) choose(trial.stimuli["ab".indexOf(key)].id);
  else if (study.kind === "mushra" && trial.stimuli[rank]) {
    choose(trial.stimuli[rank].id);
    $("rows").children[rank].querySelector("input").focus();
  }
});
window.listening = { Player };
tick();
guarded(begin)();
