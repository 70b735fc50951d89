// Lists the API, signs in with a username and a password, and gives every call the access token. The tokens are kept in this page
// and nowhere else: who reloads it signs in again.
"use strict";

const authUrl = document.querySelector('meta[name="auth-url"]').content;
const signIn = document.getElementById("sign-in");
const signOut = document.getElementById("sign-out");
const said = document.getElementById("said");
let api = null;
let refreshToken = null;
let timer = null;

// Swagger UI has colors for dark mode, which this class selects.
const dark = matchMedia("(prefers-color-scheme: dark)");
const showMode = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", showMode);
showMode();

// Returns a grpcurl command that calls the method like the example of the operation.
function grpcurl(operation) {
  const body = operation.requestBody?.content["application/json"];
  const message = {};
  for (const parameter of operation.parameters ?? []) {
    if (parameter.in === "path") {
      message[parameter.name] = parameter.example ?? "ID";
    }
  }
  const field = operation["x-body"];
  const example = body?.example ?? {};
  if (field === "*") {
    Object.assign(message, example);
  } else if (field) {
    // The variables of an update are fields of the resource.
    const resource = { ...example };
    for (const [name, path] of Object.entries(operation["x-path-fields"] ?? {})) {
      if (path.startsWith(`${field}.`)) {
        resource[path.slice(field.length + 1)] = message[name];
        delete message[name];
      }
    }
    message[field] = resource;
  }
  const plaintext = location.protocol === "https:" ? "" : "-plaintext ";
  const port = location.port || (location.protocol === "https:" ? 443 : 80);
  const token = operation.security?.length ? '-H "authorization: Bearer $TOKEN" ' : "";
  const data = Object.keys(message).length ? `-d '${JSON.stringify(message)}' ` : "";
  return `grpcurl ${plaintext}${token}${data}${location.hostname}:${port} ${operation["x-grpc-method"].slice(1)}`;
}

// Adds the gRPC method and a grpcurl command to the description of an operation, and moves its errors into a collapsed list.
function prepare(operation) {
  const method = operation["x-grpc-method"];
  if (method) {
    operation.description += `\n\n**gRPC method:** \`${method.slice(1)}\`\n\n\`\`\`sh\n${grpcurl(operation)}\n\`\`\``;
  }
  const errors = Object.entries(operation.responses).filter(([status]) => !/^[23]/.test(status));
  if (errors.length) {
    const lines = errors.map(([status, response]) => `**${status}**\n\n${response.description}`);
    const statuses = errors.map(([status]) => status).join(", ");
    operation.description += `\n\n<details><summary>Errors: ${statuses}</summary>\n\n${lines.join("\n\n")}\n\n</details>`;
    for (const [status] of errors) {
      delete operation.responses[status];
    }
  }
}

async function load() {
  const spec = await (await fetch("/openapi.json")).json();
  for (const item of Object.values(spec.paths)) {
    Object.values(item).forEach(prepare);
  }
  api = SwaggerUIBundle({ spec, dom_id: "#api", deepLinking: true, tryItOutEnabled: true, validatorUrl: null });
}

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

load().catch((error) => {
  said.textContent = `The description of the API could not be loaded: ${error.message}`;
});
