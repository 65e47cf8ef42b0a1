// Draw a line from each forward value to its gradient. Everything else works without this script.
for (const pass of document.querySelectorAll(".hg .pass")) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "links");
  svg.setAttribute("aria-hidden", "true");
  pass.append(svg);
  const draw = () => {
    svg.replaceChildren();
    const origin = pass.getBoundingClientRect();
    for (const gradient of pass.querySelectorAll(".gradient")) {
      const key = [...gradient.classList].find((name) => /^p\d+v\d+$/.test(name));
      if (!key) continue;
      const from = pass.querySelector(".forward ." + key).getBoundingClientRect();
      const to = gradient.querySelector("summary").getBoundingClientRect();
      const x = [from.right - origin.left + 3, to.left - origin.left - 6];
      const y = [from, to].map((box) => box.top + Math.min(box.height, 34) / 2 - origin.top);
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      const middle = (x[0] + x[1]) / 2;
      path.setAttribute("d", `M${x[0]} ${y[0]}C${middle} ${y[0]} ${middle} ${y[1]} ${x[1]} ${y[1]}`);
      path.setAttribute("class", [key, ...gradient.classList].filter((name) => /^(p\d|is-)/.test(name)).join(" "));
      svg.append(path);
    }
  };
  new ResizeObserver(draw).observe(pass);
}
// On paper the reasons stand open; the expected lines stay as they are.
const opened = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll(".hg .gradient:is(.is-wrong, .is-unverified):not([open])")) {
    details.open = true;
    opened.push(details);
  }
});
addEventListener("afterprint", () => opened.splice(0).forEach((details) => (details.open = false)));
