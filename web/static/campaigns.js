/* The campaign form: merge fields where the cursor is, faulty lines to jump to, a time only when one is wanted. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const html = document.getElementById("html");
  let last = html;
  for (const field of document.querySelectorAll("#subject, #html, #text, .variant input, .variant textarea")) {
    field.addEventListener("focus", () => { last = field; });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-insert]");
    if (!button) return;
    last.focus();
    last.setRangeText(button.dataset.insert, last.selectionStart, last.selectionEnd, "end");
  });

  /* "Line 12: …" becomes a button that selects the line. */
  for (const list of document.querySelectorAll("[data-lines]")) {
    const area = document.querySelector(list.dataset.lines);
    for (const item of list.children) {
      const found = /^Line (\d+)/.exec(item.textContent);
      if (!found) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "line small";
      button.textContent = found[0];
      button.addEventListener("click", () => selectLine(area, Number(found[1])));
      item.textContent = item.textContent.slice(found[0].length);
      item.prepend(button);
    }
  }

  /* data-shown="name=value,value": while that field has one of them; "name": while it is ticked; "name=*": filled. */
  const shown = [...document.querySelectorAll("[data-shown]")];
  const toggle = () => {
    for (const part of shown) {
      const [name, values] = part.dataset.shown.split(/=(.*)/);
      const fields = [...document.getElementsByName(name)];
      const field = fields.find((each) => each.type !== "radio" || each.checked);
      const value = field?.type === "checkbox" ? (field.checked ? "on" : "") : field?.value ?? "";
      part.hidden = !(values && values !== "*" ? values.split(",").includes(value) : value);
    }
  };
  for (const name of new Set(shown.map((part) => part.dataset.shown.split("=")[0]))) {
    for (const field of document.getElementsByName(name)) field.addEventListener("change", toggle);
  }
  toggle();

  /* The reader's own time zone is offered, visibly, while no other was chosen and no time was written. */
  const zone = document.querySelector("[data-zone]");
  const start = document.getElementById("start");
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const open = !document.getElementById("windows")?.checked; // written windows keep the clock that they were written by
  if (zone && zone.value === "UTC" && !start?.value && open && here) zone.value = here;
});

function selectLine(area, number) {
  const lines = area.value.split("\n");
  const before = lines.slice(0, number - 1).join("\n").length + (number > 1 ? 1 : 0);
  area.focus();
  area.setSelectionRange(before, before + (lines[number - 1] ?? "").length);
  area.scrollTop = Math.max(0, (number - 4) * parseFloat(getComputedStyle(area).lineHeight));
}
