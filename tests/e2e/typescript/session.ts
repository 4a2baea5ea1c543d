import { refreshTokens, type TokensOut } from "./client";
import type { Client } from "./client/client";

export interface TokenStore {
  load(): Promise<string | null>;
  save(refreshToken: string): Promise<void>;
  clear(): Promise<void>;
}

export class NotNow extends Error {}

const SIGNED_OUT = ["refresh_expired", "refresh_reused", "session_revoked"];

export class Session {
  private access: { token: string; validUntil: number } | null = null;
  private running: Promise<string | null> | null = null;

  constructor(
    private readonly client: Client,
    private readonly store: TokenStore,
    private readonly onSignedOut: () => void,
  ) {}

  /** What signUp, confirmEmail, signIn and refreshTokens answer. */
  async take(tokens: TokensOut): Promise<string> {
    await this.store.save(tokens.refresh_token); // first on disk, then in use
    this.access = { token: tokens.access_token, validUntil: Date.now() + tokens.expires_in * 1000 };
    return tokens.access_token;
  }

  /** An access token that works, or null when there is no network just now or nobody is signed in. */
  async accessToken(not?: string): Promise<string | null> {
    const access = this.access;
    if (access && access.token !== not && access.validUntil > Date.now() + 30_000) return access.token;
    this.running ??= this.refresh().finally(() => (this.running = null));
    return this.running;
  }

  private async refresh(): Promise<string | null> {
    const token = await this.store.load();
    if (!token) return null;
    try {
      const { data, error } = await refreshTokens({ client: this.client, body: { refresh_token: token } });
      if (data?.refresh_token) return await this.take(data); // a hotel's page has none
      if (SIGNED_OUT.includes(error?.code ?? "")) {
        this.access = null;
        await this.store.clear();
        this.onSignedOut();
      }
    } catch {
      // Not JSON, no room on disk: keep the token, try later, as with every other problem.
    }
    return null;
  }

  /** Runs a call; on 401 once more with a fresh token. */
  async call<T extends { response: Response }>(operation: (token: string) => Promise<T>): Promise<T> {
    const token = await this.accessToken();
    if (!token) throw new NotNow();
    const answer = await operation(token);
    if (answer.response?.status !== 401) return answer;
    const fresh = await this.accessToken(token);
    if (!fresh) throw new NotNow();
    return operation(fresh);
  }
}
