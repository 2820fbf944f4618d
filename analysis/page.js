// A sandboxed frame, as MLflow's artifact viewer is, opens nothing that lies beside the page: a click would empty it.
if (window.self !== window.top)
  for (const link of document.querySelectorAll('a:not([href^="#"])'))
    link.replaceWith(`${link.textContent}: ${link.getAttribute("href")}, beside this page`);

// On a narrow screen the parts are closed, but for the first: together they are a hundred screens long.
if (matchMedia("(max-width: 42rem)").matches)
  for (const part of [...document.querySelectorAll(".part")].slice(1)) part.open = false;

// Where the page is without the figures for narrow screens, which lie beside it, those that it holds are shown.
for (const source of document.querySelectorAll("source")) {
  const image = source.nextElementSibling;
  const showWide = () => source.remove();
  if (image.complete && !image.naturalWidth) showWide();
  image.addEventListener("error", showWide);
}

// An animation is loaded when it comes into view; where it cannot be or is not wanted, its frame stays.
const moves = !matchMedia("(prefers-reduced-motion: reduce)").matches;
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    const source = target.parentElement.querySelector("source");
    const isNarrow = source !== null && matchMedia(source.media).matches;
    const animation = new Image();
    animation.onload = () => { if (isNarrow) source.srcset = animation.src; else target.src = animation.src; };
    animation.src = (isNarrow ? source : target).dataset.animation;
  }
});
for (const image of document.querySelectorAll("img[data-animation]")) if (moves) seen.observe(image);
