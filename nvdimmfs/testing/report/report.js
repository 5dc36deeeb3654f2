"use strict";

// The filter of the timelines and uevents.  Its state is the fragment of the address, such as
// #only=write,refused&find=namespace0.0, so that a link can have it.

const form = document.querySelector("form");
const rows = [...document.querySelectorAll("tr[data-op]")];
const ticks = new Map([...document.querySelectorAll(".strip a")].map((tick) => [tick.getAttribute("href"), tick]));
const words = [...form.querySelectorAll("input[name=only]")];
const find = form.querySelector("input[name=find]");
const bare = form.querySelector("input[name=bare]");

function apply() {
  const chosen = words.filter((word) => word.checked).map((word) => word.value);
  const ops = chosen.filter((word) => word !== "refused");
  const wanted = find.value.toLowerCase();
  let count = 0;
  for (const row of rows) {
    const shown =
      (ops.length === 0 || ops.includes(row.dataset.op)) &&
      (!chosen.includes("refused") || row.classList.contains("refused")) &&
      row.textContent.toLowerCase().includes(wanted);
    row.hidden = !shown;
    ticks.get("#" + row.id)?.toggleAttribute("hidden", !shown);
    count += shown;
  }
  document.body.classList.toggle("bare", bare.checked);
  form.querySelector("output").textContent = `${count} of ${rows.length} lines`;
}

function keep() {
  const state = new URLSearchParams();
  const chosen = words.filter((word) => word.checked).map((word) => word.value);
  if (chosen.length > 0) state.set("only", chosen.join(","));
  if (find.value !== "") state.set("find", find.value);
  if (bare.checked) state.set("bare", "1");
  history.replaceState(null, "", "#" + state);
}

function restore() {
  if (document.getElementById(location.hash.slice(1))) return; // a line of a timeline
  const state = new URLSearchParams(location.hash.slice(1));
  const chosen = (state.get("only") ?? "").split(",");
  for (const word of words) word.checked = chosen.includes(word.value);
  find.value = state.get("find") ?? "";
  bare.checked = state.has("bare");
}

form.addEventListener("input", () => { apply(); keep(); });
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", () => { restore(); apply(); });
form.hidden = false;
restore();
apply();
