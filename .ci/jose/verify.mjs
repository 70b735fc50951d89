// Verifies a token with the keys at a URL: `node verify.mjs JWKS_URI ISSUER TOKEN`.

import { createRemoteJWKSet, jwtVerify } from "jose";

const [jwksUri, issuer, token] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(jwksUri));
const options = { issuer, audience: "profile-service", algorithms: ["RS256"], typ: "at+jwt" };
const { payload } = await jwtVerify(token, keys, options);
console.log(payload.preferred_username);

const [header, claims, signature] = token.split(".");
const others = Buffer.from(JSON.stringify({ ...payload, sub: "somebody else" })).toString("base64url");
try {
  await jwtVerify([header, others, signature].join("."), keys, options);
  console.log("taken");
} catch {
  console.log("refused");
}
