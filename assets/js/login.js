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
