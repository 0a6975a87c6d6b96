// Verifies a token with jose, by a secret or by the published keys, and signs claims with a secret.
//
// Reads {"token", "secret"} or {"token", "jwks"} and prints the claims; reads {"claims", "secret"} and prints
// the token.

const fs = require("node:fs");
const jose = require("jose");

const question = JSON.parse(fs.readFileSync(0, "utf8"));
const secret = question.secret && new TextEncoder().encode(question.secret);

async function answer() {
  if (question.claims) {
    return new jose.SignJWT(question.claims).setProtectedHeader({ alg: "HS256" }).sign(secret);
  }
  const key = secret ?? jose.createLocalJWKSet(question.jwks);
  const algorithms = secret ? ["HS256"] : ["ES256", "EdDSA", "RS256"];
  const { payload } = await jose.jwtVerify(question.token, key, { algorithms, requiredClaims: ["exp"] });
  return payload;
}

answer().then((found) => process.stdout.write(JSON.stringify(found)));
