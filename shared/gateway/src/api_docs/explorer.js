// Lists the API, signs in with a username and a password, and gives every call the access token. The tokens are kept in this page
// and nowhere else: who reloads it signs in again.
"use strict";

const authUrl = document.querySelector('meta[name="auth-url"]').content;
const signIn = document.getElementById("sign-in");
const signOut = document.getElementById("sign-out");
const said = document.getElementById("said");
const api = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
let refreshToken = null;
let timer = null;

async function call(verb, body) {
  const response = await fetch(`${authUrl}/v1/tokens:${verb}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) {
    throw new Error(answer.message);
  }
  return answer;
}

function take(tokens) {
  api.preauthorizeApiKey("bearer", tokens.accessToken);
  refreshToken = tokens.refreshToken;
  // A little before it expires.
  timer = setTimeout(refresh, Math.max(tokens.expiresIn - 30, 5) * 1000);
}

async function refresh() {
  try {
    take(await call("refresh", { refreshToken }));
  } catch (error) {
    forget(error.message);
  }
}

function forget(why) {
  clearTimeout(timer);
  refreshToken = null;
  api.authActions.logout(["bearer"]);
  signOut.hidden = true;
  signIn.hidden = false;
  said.textContent = why;
}

signIn.addEventListener("submit", async (event) => {
  event.preventDefault();
  said.textContent = "";
  try {
    const tokens = await call("login", Object.fromEntries(new FormData(signIn)));
    take(tokens);
    document.getElementById("who").textContent = tokens.user.username;
    signIn.reset();
    signIn.hidden = true;
    signOut.hidden = false;
  } catch (error) {
    said.textContent = error.message;
  }
});

signOut.addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = refreshToken;
  forget("");
  try {
    await call("logout", { refreshToken: token });
  } catch (error) {
    said.textContent = error.message;
  }
});
