/**
 * A signed-in app: a `fetch` that can't be used wrongly (docs/clients/README.md). For browsers, Capacitor, React Native
 * and Node; no dependencies.
 *
 *     const session = new Session({ api: "https://accounts.example.com/api/v1", store, appVersion: "3.1", onSignedOut });
 *     const client = createClient({ baseUrl: "https://accounts.example.com", fetch: session.fetch }); // the generated one
 *     const response = await session.fetch(`${api}/me`);                                              // or by hand
 */

/** The Keychain or the Keystore. In a web page keep it in memory. `save` writes all of it or nothing. */
export interface TokenStore {
  load(): Promise<string | null>;
  save(refreshToken: string): Promise<void>;
  clear(): Promise<void>;
}

/** What every error's body says (application/problem+json). */
export interface Problem {
  status: number;
  code: string;
  detail: string;
  action: string;
  retry_after?: number | null;
  errors?: { field: string; code: string; detail: string }[];
  ticket?: string | null;
}

export interface Options {
  api: string;
  store: TokenStore;
  appVersion: string;
  onSignedOut(): void;
  /** This version of the app is too old for what the service answered. */
  onUpdateApp?(): void;
  /** Ask for the password and call `reauthenticate` with it. True: the request is sent once more. */
  reauthenticate?(): Promise<boolean>;
  fetch?: typeof fetch;
  sleep?(seconds: number): Promise<void>;
  /** React Native has no crypto.randomUUID: pass that of expo-crypto. */
  uuid?(): string;
}

/** Nobody is signed in. */
export class NotSignedIn extends Error {}
/** No answer of the service just now, such as in a tunnel or behind a hotel's login page. The person stays signed in. */
export class NotNow extends Error {}

interface Tokens {
  access_token: string;
  refresh_token: string;
  expires_in: number;
}

const OF_AN_ACCOUNT = /^\/(me|users)(\/|\?|$)/; // the operations that need an access token
const READS = ["GET", "HEAD"];
const TRIES = 4;
const PATIENCE = 30; // seconds that a request waits before it is sent again; after that the caller decides

export async function problemOf(response: Response): Promise<Problem | null> {
  if (!response.headers.get("Content-Type")?.startsWith("application/problem+json")) return null;
  return response.clone().json().catch(() => null);
}

export class Session {
  private access: { token: string; validUntil: number } | null = null;
  private running: Promise<string | null> | null = null;

  constructor(private readonly options: Options) {}

  /** As the platform's own, for addresses of the service. Sends the token, tries again, and takes new tokens. */
  readonly fetch = async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
    const request = new Request(input, init);
    if (!request.url.startsWith(`${this.options.api}/`)) return this.send(request); // a picture, for instance
    const mine = OF_AN_ACCOUNT.test(request.url.slice(this.options.api.length));
    this.sign(request);
    let response = await this.call(request, mine);
    const problem = await problemOf(response);
    if (problem?.action === "reauthenticate" && (await this.options.reauthenticate?.())) {
      response = await this.call(request, mine);
    }
    // A second factor is no reason to update: `ticket` is for `finishSignIn`.
    if (problem?.action === "update_app" && problem.code !== "mfa_required") this.options.onUpdateApp?.();
    if (response.ok && !mine && request.method === "POST") await this.takeFrom(response);
    return response;
  };

  /** An access token that works, or null if nobody is signed in. `not`: this one was refused. Throws NotNow. */
  async accessToken(not?: string): Promise<string | null> {
    const access = this.access;
    if (access && access.token !== not && access.validUntil > Date.now() + 30_000) return access.token;
    this.running ??= this.refresh().finally(() => (this.running = null)); // one for all who ask meanwhile
    return this.running;
  }

  /** Signs this device out, without a network too. */
  async signOut(): Promise<void> {
    const token = await this.options.store.load();
    this.access = null;
    await this.options.store.clear();
    if (token) await this.send(this.post("/token/revoke", token)).catch(() => {});
  }

  private sign(request: Request): void {
    request.headers.set("X-App-Version", this.options.appVersion);
    if (READS.includes(request.method) || request.headers.has("Idempotency-Key")) return;
    request.headers.set("Idempotency-Key", this.options.uuid?.() ?? crypto.randomUUID());
  }

  /** Sends it; after a 401 once more with a new token. Whether the session has ended is said by refreshing alone. */
  private async call(request: Request, mine: boolean): Promise<Response> {
    let token = mine ? await this.accessToken() : null;
    if (mine && !token) throw new NotSignedIn();
    const attempt = () => {
      const copy = request.clone();
      if (token) copy.headers.set("Authorization", `Bearer ${token}`);
      return this.send(copy);
    };
    const response = await this.patiently(attempt, request.signal);
    if (!token || response.status !== 401) return response;
    token = await this.accessToken(token);
    return token ? this.patiently(attempt, request.signal) : response;
  }

  private async refresh(): Promise<string | null> {
    const token = await this.options.store.load();
    if (!token) return (this.access = null);
    // The same token gets the same answer, however often it is sent.
    const response = await this.patiently(() => this.send(this.post("/token/refresh", token))).catch(() => null);
    if (!response) throw new NotNow();
    if ((await this.options.store.load()) !== token) return this.refresh(); // signed out or in, here or in another tab
    if (response.ok) {
      const tokens: Tokens | null = await response.json().catch(() => null);
      if (tokens?.refresh_token) return this.take(tokens);
    } else if ((await problemOf(response))?.action === "sign_in") {
      this.access = null;
      await this.options.store.clear();
      this.options.onSignedOut();
      return null;
    }
    throw new NotNow();
  }

  private post(path: string, refreshToken: string): Request {
    const headers = { "Content-Type": "application/json", "X-App-Version": this.options.appVersion };
    const body = JSON.stringify({ refresh_token: refreshToken });
    return new Request(this.options.api + path, { method: "POST", headers, body });
  }

  private async takeFrom(response: Response): Promise<void> {
    const body: { tokens?: Tokens } | null = await response.clone().json().catch(() => null);
    if (body?.tokens?.refresh_token) await this.take(body.tokens);
  }

  private async take(tokens: Tokens): Promise<string> {
    await this.options.store.save(tokens.refresh_token); // first in the store, then in use
    this.access = { token: tokens.access_token, validUntil: Date.now() + tokens.expires_in * 1000 };
    return tokens.access_token;
  }

  /** Sends it again while there is no answer, or one that says so. All writes have an Idempotency-Key, so they may be. */
  private async patiently(attempt: () => Promise<Response>, signal?: AbortSignal): Promise<Response> {
    for (let tries = 1; ; tries++) {
      const backoff = 2 ** (tries - 1) * (0.5 + Math.random());
      const response = await attempt().catch((error: unknown) => {
        if (tries === TRIES || signal?.aborted) throw error;
        return null;
      });
      const wait = response ? await pause(response, backoff) : backoff;
      if (response && (wait === null || wait > PATIENCE || tries === TRIES)) return response;
      await (this.options.sleep?.(wait ?? 0) ?? new Promise((done) => setTimeout(done, (wait ?? 0) * 1000)));
    }
  }

  private send(request: Request): Promise<Response> {
    return (this.options.fetch ?? globalThis.fetch)(request);
  }
}

/** The seconds until it may be sent again, or null if that would change nothing. */
async function pause(response: Response, backoff: number): Promise<number | null> {
  if (response.ok || response.status === 412) return null; // 412: first read the profile again
  const problem = await problemOf(response);
  const again = problem ? problem.action === "retry" : [502, 503, 504].includes(response.status);
  return again ? (problem?.retry_after ?? (Number(response.headers.get("Retry-After")) || backoff)) : null;
}
