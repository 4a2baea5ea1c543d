/** What an app does, with the client that is generated from the contract over docs/clients: ADDRESS PICTURE. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import {
  endOtherSessions, getProfile, getUser, listSessions, putPicture, requestEmailChange, signIn, signUp, updateProfile,
  type Action, type ProblemOut,
} from "./client";
import { createClient } from "./client/client";
import { NotNow, NotSignedIn, Session, type TokenStore } from "./session";

const [address = "", picture = ""] = process.argv.slice(2);
const password = "correct lagoon tractor";

class Memory implements TokenStore {
  token: string | null = null;
  load = async () => this.token;
  save = async (token: string) => void (this.token = token);
  clear = async () => void (this.token = null);
}

/** The network: what was asked, and what becomes of the next requests. */
const asked: Request[] = [];
const weather: ((request: Request) => Promise<Response>)[] = [];
const network = async (input: RequestInfo | URL): Promise<Response> => {
  const request = input as Request;
  asked.push(request);
  return (weather.shift() ?? fetch)(request);
};
const count = (path: string) => asked.filter((request) => request.url.endsWith(path)).length;
const lost = async (request: Request): Promise<Response> => {
  await fetch(request);
  throw new TypeError("terminated"); // it was done, and nobody hears of it
};
const refused = (status: number, problem: object) => async () =>
  new Response(JSON.stringify(problem), { status, headers: { "Content-Type": "application/problem+json" } });

function app() {
  const store = new Memory();
  const told = { signedOut: 0, updates: 0, waits: [] as number[] };
  const session = new Session({
    api: `${address}/api/v1`, store, appVersion: "7.1", fetch: network,
    onSignedOut: () => (told.signedOut += 1),
    onUpdateApp: () => (told.updates += 1),
    reauthenticate: async () => true,
    sleep: async (seconds) => void told.waits.push(seconds),
  });
  const client = createClient({ baseUrl: address, fetch: session.fetch });
  const expire = () => (session["access"]!.validUntil = 0);
  return { session, store, told, client, expire };
}

async function main(): Promise<void> {
  const { session, store, told, client, expire } = app();
  const device = { name: "Ada's laptop", platform: "node" };
  const body = { username: "typescript", email: "typescript@example.com", password, first_name: "Ada", device };

  weather.push(lost);
  const made = await signUp({ client, body });
  assert(made.data && "tokens" in made.data, JSON.stringify(made.error));
  assert.equal(count("/signup"), 2);
  const { data: devices } = await listSessions({ client });
  assert.equal(devices?.sessions.length, 1);
  console.log("signed up once, though the answer was lost");

  const first = store.token;
  expire();
  const profiles = await Promise.all(Array.from({ length: 16 }, () => getProfile({ client })));
  assert.deepEqual(profiles.map(({ data }) => data?.username), Array(16).fill("typescript"));
  assert.equal(count("/token/refresh"), 1);
  assert(store.token && store.token !== first);
  session["access"]!.token = "one that is refused";
  await Promise.all(Array.from({ length: 16 }, () => getProfile({ client })));
  assert.equal(count("/token/refresh"), 2);
  console.log("refreshed once for 16 requests");

  expire();
  weather.push(lost, lost);
  const { data: profile } = await getProfile({ client });
  assert(profile);
  assert.equal(count("/token/refresh"), 5);
  assert.equal(profile.email_verified, false);
  assert(Date.now() - profile.created_at.getTime() < 600_000);
  console.log("refreshed, though the answer was lost twice");

  told.waits.length = 0;
  const proxy = async () => new Response("<h1>Bad gateway</h1>", { status: 502, headers: { "Retry-After": "3" } });
  weather.push(refused(503, { code: "overloaded", action: "retry", retry_after: 7 }), proxy);
  const { data: changed } = await updateProfile({ client, body: { first_name: "Augusta" } });
  assert.deepEqual([changed?.first_name, changed?.last_name], ["Augusta", ""]);
  assert.deepEqual(told.waits, [7, 3]);
  const keys = asked.slice(-3).map((request) => request.headers.get("Idempotency-Key"));
  assert(keys[0] && new Set(keys).size === 1);
  assert.equal(asked.at(-1)!.headers.get("X-App-Version"), "7.1");
  console.log("waited as long as it was told to");

  const file = new Blob([readFileSync(picture)]);
  const { data: shown } = await putPicture({ client, body: { file } });
  assert(shown?.picture);
  assert(shown.picture.sizes["256"]?.startsWith("http"));
  const { data: seen } = await getUser({ client, path: { user_id: shown.id } });
  assert.deepEqual([seen?.username, seen?.first_name, seen?.picture?.url], ["typescript", "", shown.picture.url]);
  console.log("changed the picture, which others see");

  const wrong = await signIn({ client, body: { login: "typescript", password: "wrong" } });
  const problem: ProblemOut | undefined = wrong.error;
  const action: Action | undefined = problem?.action;
  assert.deepEqual([problem?.status, problem?.code, action], [401, "invalid_credentials", "fix_input"]);
  weather.push(refused(403, { code: "recent_sign_in_needed", action: "reauthenticate" }));
  assert((await requestEmailChange({ client, body: { email: "new@example.com", password } })).data);
  weather.push(refused(400, { code: "of_tomorrow", action: "update_app" }));
  await getProfile({ client });
  assert.equal(told.updates, 1);
  console.log("did what a problem asked for");

  // Neither a hotel's page nor a missing network signs anybody out.
  const hotel = async () => new Response("<h1>Welcome</h1>", { headers: { "Content-Type": "text/html" } });
  const tunnel = () => Promise.reject(new TypeError("fetch failed"));
  const busy = refused(503, { code: "service_unavailable", action: "retry", retry_after: 600 });
  for (const sky of [[hotel], [tunnel, tunnel, tunnel, tunnel], [busy]]) {
    expire();
    weather.push(...sky);
    await assert.rejects(getProfile({ client, throwOnError: true }), NotNow);
    assert.equal(weather.length, 0);
  }
  assert(store.token && (await getProfile({ client })).data);
  assert.equal(told.signedOut, 0);
  console.log("stayed signed in");

  const other = app();
  await signIn({ client: other.client, body: { login: "typescript", password, device: { name: "Ada's phone" } } });
  await endOtherSessions({ client: other.client });
  assert.equal((await getProfile({ client })).error?.code, "session_revoked");
  assert.deepEqual([store.token, told.signedOut], [null, 1]);
  await assert.rejects(getProfile({ client, throwOnError: true }), NotSignedIn);
  await other.session.signOut();
  assert.deepEqual([other.store.token, other.told.signedOut], [null, 0]);
  assert.equal((await signIn({ client, body: { login: "typescript", password } })).data?.user.first_name, "Augusta");
  const { data: left } = await listSessions({ client });
  assert.deepEqual(left?.sessions.map(({ current }) => current), [true]);
  console.log("signed out, and in again");
}

void main();
