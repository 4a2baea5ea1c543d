/** What an app does, with the client that is generated from the contract: ADDRESS PICTURE. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { getProfile, putPicture, signIn, signOut, signUp, updateProfile, type Action, type ProblemOut } from "./client";
import { createClient } from "./client/client";
import { Session, type TokenStore } from "./session";

const [address = "", picture = ""] = process.argv.slice(2);
const client = createClient({ baseUrl: address });
const password = "correct lagoon tractor";

class Memory implements TokenStore {
  token: string | null = null;
  load = async () => this.token;
  save = async (token: string) => void (this.token = token);
  clear = async () => void (this.token = null);
}

async function main(): Promise<void> {
  const store = new Memory();
  let signedOut = 0;
  const session = new Session(client, store, () => (signedOut += 1));

  const username = "typescript";
  const device = { name: "Ada's laptop", platform: "node" };
  const made = await signUp({
    client,
    body: { username, email: "typescript@example.com", password, first_name: "Ada", last_name: "King", device },
  });
  assert(made.data && "tokens" in made.data, JSON.stringify(made.error));
  const first = await session.take(made.data.tokens);
  const firstRefresh = store.token;
  console.log("signed up");

  const [one, two] = await Promise.all([session.accessToken(first), session.accessToken(first)]);
  assert(one && one === two && one !== first);
  assert(store.token && store.token !== firstRefresh);
  console.log("refreshed");

  const { data: profile } = await session.call((auth) => getProfile({ client, auth }));
  assert(profile);
  assert.equal(profile.username, username);
  assert.equal(profile.email_verified, false);
  assert.equal(profile.gender, "unspecified");
  assert(Date.now() - profile.created_at.getTime() < 600_000);
  console.log("read the profile");

  const { data: changed } = await session.call((auth) => updateProfile({ client, auth, body: { first_name: "Augusta" } }));
  assert.deepEqual([changed?.first_name, changed?.last_name], ["Augusta", "King"]);
  const file = new Blob([readFileSync(picture)]);
  const { data: shown } = await session.call((auth) => putPicture({ client, auth, body: { file } }));
  assert(shown?.picture?.sizes["256"]?.startsWith("http"));
  console.log("changed name and picture");

  const wrong = await signIn({ client, body: { login: username, password: "wrong" } });
  const problem: ProblemOut | undefined = wrong.error;
  const action: Action | undefined = problem?.action;
  assert.deepEqual([problem?.status, problem?.code, action], [401, "invalid_credentials", "fix_input"]);
  console.log("met a problem");

  // Neither a hotel's page nor a missing network signs anybody out.
  const hotel = async () => new Response("<h1>Welcome</h1>", { headers: { "Content-Type": "text/html" } });
  const tunnel = () => Promise.reject(new TypeError("fetch failed"));
  const overloaded = async () => Response.json({ code: "overloaded", status: 503 }, { status: 503 });
  const broken = async () => new Response("{", { headers: { "Content-Type": "application/json" } });
  for (const fetch of [hotel, tunnel, overloaded, broken]) {
    const elsewhere = new Session(createClient({ baseUrl: address, fetch }), store, () => (signedOut += 1));
    assert.equal(await elsewhere.accessToken(), null);
  }
  assert(store.token);
  assert.equal(signedOut, 0);
  console.log("stayed signed in");

  await signOut({ client, body: { refresh_token: store.token } });
  assert.equal(await session.accessToken(one), null);
  assert.equal(store.token, null);
  assert.equal(signedOut, 1);
  console.log("signed out");
}

void main();
