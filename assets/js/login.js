// The login page follows the light or dark that was chosen in the studio, else that of the system.
const chosen = localStorage.getItem("ranking-studio.theme");
const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
document.body.classList.toggle("dark", dark);

/** One press is one try. */
const form = document.querySelector('form[action="/login"]');
form?.addEventListener("submit", () => {
  const button = form.querySelector("button");
  button.disabled = true;
  button.textContent = "Logging in …";
});
window.addEventListener("pageshow", () => {
  const button = form?.querySelector("button");
  if (button?.disabled) Object.assign(button, { disabled: false, textContent: "Log in" });
});
