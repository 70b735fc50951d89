// Signs a user in, keeps a note, and lists their notes:
//
//     npm ci && npm run build && npm start -- alice 'seven blue cafes of tin' Hello

import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { TokenService } from "./gen/auth/v1/token_pb.js";
import { NoteService } from "./gen/profiles/v1/note_pb.js";

const [username, password, title, auth = "http://127.0.0.1:50051", profile = "http://127.0.0.1:50052"] = process.argv.slice(2);
if (title === undefined) {
  throw new Error("notes USERNAME PASSWORD TITLE [AUTH_URL PROFILE_URL]");
}

const tokens = createClient(TokenService, createGrpcTransport({ baseUrl: auth }));
const { accessToken } = await tokens.login({ username, password });

const signedIn: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${accessToken}`);
  return next(request);
};
const notes = createClient(NoteService, createGrpcTransport({ baseUrl: profile, interceptors: [signedIn] }));

// With a `noteId` of one's own choice it would be safe to retry.
await notes.createNote({ userId: "me", note: { title } });
for (const note of (await notes.listNotes({ userId: "me" })).notes) {
  console.log(note.title);
}
