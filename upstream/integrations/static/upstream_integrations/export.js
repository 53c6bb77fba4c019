// The buttons that choose all columns or none. Without this script they stay hidden, and the boxes work alone.
for (const group of document.querySelectorAll("[data-export-choose]")) {
  const boxes = () => group.closest("fieldset").querySelectorAll("input[type=checkbox]");
  group.hidden = false;
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-checked]");
    if (button) boxes().forEach((box) => { box.checked = button.dataset.checked === "true"; });
  });
}
