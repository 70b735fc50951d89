// Draws the diagrams of a page in the colors of its theme, and draws them again when the reader changes the theme.
(() => {
  const diagrams = [...document.querySelectorAll("pre.mermaid")].map((element) => ({ element, text: element.textContent }));
  if (diagrams.length === 0) return;
  const isDark = () => ["coal", "navy", "ayu"].some((name) => document.documentElement.classList.contains(name));

  async function draw() {
    mermaid.initialize({ startOnLoad: false, theme: isDark() ? "dark" : "default", sequence: { actorMargin: 20, width: 110 } });
    for (const [index, { element, text }] of diagrams.entries()) {
      const { svg } = await mermaid.render(`diagram-${index}`, text);
      element.innerHTML = svg;
      // A wide diagram shrinks to three quarters of its size. Beyond that it scrolls, so that its text stays readable.
      const drawn = element.firstElementChild;
      const width = drawn.viewBox.baseVal.width;
      drawn.style.maxWidth = "none";
      drawn.style.width = `max(min(100%, ${width}px), ${width * 0.75}px)`;
    }
  }

  let drawnDark = isDark();
  let drawing = draw();
  new MutationObserver(() => {
    if (drawnDark === isDark()) return;
    drawnDark = isDark();
    drawing = drawing.then(draw);
  }).observe(document.documentElement, { attributeFilter: ["class"] });
})();
