// Keeps a note with the types that openapi-typescript generates, and reads an answer with a field that they do not have.
import createClient from "openapi-fetch";
import type { paths as AuthPaths } from "./auth.js";
import type { paths as ProfilePaths } from "./profile.js";

declare const process: { argv: string[] };

const [authUrl, profileUrl, username, password] = process.argv.slice(2) as [string, string, string, string];
const auth = createClient<AuthPaths>({ baseUrl: authUrl });
const { data: tokens } = await auth.POST("/v1/tokens:login", { body: { username, password } });
const headers = { authorization: `Bearer ${tokens!.accessToken}` };
const profiles = createClient<ProfilePaths>({ baseUrl: profileUrl, headers });

const owner = { user_id: "me" };
const { data: created } = await profiles.POST("/v1/profiles/{user_id}/notes", {
  params: { path: owner },
  body: { title: "From TypeScript" },
});
console.log(created!.title === "From TypeScript" && created!.body === "" ? "created" : created);

const { data: changed } = await profiles.PATCH("/v1/profiles/{user_id}/notes/{note_id}", {
  params: { path: { ...owner, note_id: created!.noteId } },
  body: { body: "changed" },
});
console.log(changed!.title === created!.title && changed!.body === "changed" ? "changed" : changed);

const { data: listed } = await profiles.GET("/v1/profiles/{user_id}/notes", {
  params: { path: owner, query: { search: "TYPESCRIPT", withTotalSize: true } },
});
console.log(listed!.totalSize === 1 && listed!.notes[0]!.noteId === created!.noteId ? "listed" : listed);

// A later release of the service adds a field.
const newer = createClient<ProfilePaths>({
  baseUrl: profileUrl,
  headers,
  fetch: async (request) => {
    const answer = await (await fetch(request)).json();
    return Response.json({ ...answer, addedLater: { nested: [1] } });
  },
});
const { data: read } = await newer.GET("/v1/profiles/{user_id}/notes/{note_id}", {
  params: { path: { ...owner, note_id: created!.noteId } },
});
console.log(read!.body === "changed" ? "newer" : read);
