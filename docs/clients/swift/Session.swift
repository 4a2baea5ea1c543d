import Foundation

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// The Keychain (`kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly`, not synchronizable). Update the one item; don't
/// delete it and add a new one.
public protocol TokenStore: Sendable {
    func load() throws -> String?
    func save(_ refreshToken: String) throws
    func clear() throws
}

/// What every error's body says (application/problem+json).
public struct Problem: Decodable, Sendable {
    public struct Field: Decodable, Sendable { public let field, code, detail: String }
    public let status: Int
    public let code, detail, action: String
    public let retryAfter: Double?
    public let errors: [Field]?
    public let ticket: String?

    enum CodingKeys: String, CodingKey {
        case status, code, detail, action, errors, ticket
        case retryAfter = "retry_after"
    }
}

public enum SessionError: Error {
    /// Nobody is signed in.
    case notSignedIn
    /// No answer of the service just now, such as in a tunnel or behind a hotel's login page. The person stays signed in.
    case notNow
}

/// A signed-in app (docs/clients/README.md).
public actor Session {
    public struct Hooks: Sendable {
        public var signedOut: @Sendable () -> Void
        /// This version of the app is too old for what the service answered.
        public var updateApp: @Sendable () -> Void = {}
        /// Ask for the password and call `reauthenticate` with it. True: the request is sent once more.
        public var reauthenticate: @Sendable () async -> Bool = { false }
        public var send: @Sendable (URLRequest) async throws -> (Data, URLResponse) = { try await URLSession.shared.data(for: $0) }
        public var sleep: @Sendable (Double) async throws -> Void = { try await Task.sleep(nanoseconds: UInt64($0 * 1e9)) }

        public init(signedOut: @escaping @Sendable () -> Void) { self.signedOut = signedOut }
    }

    public typealias Answer = (data: Data, response: HTTPURLResponse)

    private struct Tokens: Decodable {
        let accessToken, refreshToken: String
        let expiresIn: Double

        enum CodingKeys: String, CodingKey {
            case accessToken = "access_token", refreshToken = "refresh_token", expiresIn = "expires_in"
        }
    }

    private struct SignedIn: Decodable { let tokens: Tokens }

    private static let tries = 4
    private static let patience = 30.0 // seconds that a request waits before it is sent again; after that the caller decides

    private let api: URL
    private let store: any TokenStore
    private let appVersion: String
    private let hooks: Hooks
    private var access: (token: String, validUntil: Date)?
    private var running: Task<String?, Error>?

    /// `api`: https://accounts.example.com/api/v1
    public init(api: URL, store: any TokenStore, appVersion: String, hooks: Hooks) {
        (self.api, self.store, self.appVersion, self.hooks) = (api, store, appVersion, hooks)
    }

    /// Sends the token, tries again, and takes new tokens. `path` begins behind the address: "/me".
    public func send(_ method: String, _ path: String, json body: Data? = nil) async throws -> Answer {
        let request = makeRequest(method, path, body)
        // The operations that need an access token.
        let mine = path.range(of: "^/(me|users)(/|\\?|$)", options: .regularExpression) != nil
        var answer = try await call(request, mine: mine)
        let problem = Self.problem(of: answer)
        if problem?.action == "reauthenticate", await hooks.reauthenticate() { answer = try await call(request, mine: mine) }
        // A second factor is no reason to update: `ticket` is for `finishSignIn`.
        if problem?.action == "update_app", problem?.code != "mfa_required" { hooks.updateApp() }
        if Self.isOK(answer), !mine, let made = try? JSONDecoder().decode(SignedIn.self, from: answer.data) {
            _ = try take(made.tokens)
        }
        return answer
    }

    public static func problem(of answer: Answer) -> Problem? {
        let type = answer.response.value(forHTTPHeaderField: "Content-Type") ?? ""
        return type.hasPrefix("application/problem+json") ? try? JSONDecoder().decode(Problem.self, from: answer.data) : nil
    }

    /// An access token that works, or nil if nobody is signed in. `rejected`: this one was refused. Throws `notNow`.
    public func accessToken(not rejected: String? = nil) async throws -> String? {
        if let access, access.token != rejected, access.validUntil.timeIntervalSinceNow > 30 { return access.token }
        if let running { return try await running.value } // one for all who ask meanwhile
        let task = Task { try await refresh() }
        running = task
        defer { running = nil }
        return try await task.value
    }

    /// Signs this device out, without a network too.
    public func signOut() async throws {
        let token = try store.load()
        access = nil
        try store.clear()
        if let token { _ = try? await hooks.send(refreshRequest("/token/revoke", token)) }
    }

    private func makeRequest(_ method: String, _ path: String, _ body: Data?) -> URLRequest {
        var request = URLRequest(url: URL(string: api.absoluteString + path)!)
        request.httpMethod = method
        request.httpBody = body
        request.setValue(appVersion, forHTTPHeaderField: "X-App-Version")
        if body != nil { request.setValue("application/json", forHTTPHeaderField: "Content-Type") }
        if method != "GET" { request.setValue(UUID().uuidString, forHTTPHeaderField: "Idempotency-Key") }
        return request
    }

    private func refreshRequest(_ path: String, _ token: String) -> URLRequest {
        var request = makeRequest("POST", path, try? JSONEncoder().encode(["refresh_token": token]))
        request.setValue(nil, forHTTPHeaderField: "Idempotency-Key")
        return request
    }

    /// Sends it; after a 401 once more with a new token. Whether the session has ended is said by refreshing alone.
    private func call(_ request: URLRequest, mine: Bool) async throws -> Answer {
        guard mine else { return try await patiently(request) }
        guard let token = try await accessToken() else { throw SessionError.notSignedIn }
        let answer = try await patiently(request, token)
        guard answer.response.statusCode == 401, let fresh = try await accessToken(not: token) else { return answer }
        return try await patiently(request, fresh)
    }

    private func refresh() async throws -> String? {
        guard let token = try store.load() else { return nil }
        // The same token gets the same answer, however often it is sent.
        guard let answer = try? await patiently(refreshRequest("/token/refresh", token)) else { throw SessionError.notNow }
        if try store.load() != token { return try await refresh() } // signed out or in meanwhile
        if Self.isOK(answer), let tokens = try? JSONDecoder().decode(Tokens.self, from: answer.data) { return try take(tokens) }
        guard Self.problem(of: answer)?.action == "sign_in" else { throw SessionError.notNow }
        access = nil
        try store.clear()
        hooks.signedOut()
        return nil
    }

    private func take(_ tokens: Tokens) throws -> String {
        try store.save(tokens.refreshToken) // first in the store, then in use
        access = (tokens.accessToken, Date(timeIntervalSinceNow: tokens.expiresIn))
        return tokens.accessToken
    }

    /// Sends it again while there is no answer, or one that says so. All writes have an Idempotency-Key, so they may be.
    private func patiently(_ request: URLRequest, _ token: String? = nil) async throws -> Answer {
        var request = request
        if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
        for tries in 1... {
            let backoff = pow(2, Double(tries - 1)) * Double.random(in: 0.5...1.5)
            var wait = backoff
            do {
                let (data, received) = try await hooks.send(request)
                guard let response = received as? HTTPURLResponse else { throw SessionError.notNow }
                guard let pause = Self.pause((data, response), backoff), pause <= Self.patience, tries < Self.tries else {
                    return (data, response)
                }
                wait = pause
            } catch let error as URLError where error.code != .cancelled && tries < Self.tries {
                // No network: the backoff.
            }
            try await hooks.sleep(wait)
        }
        throw SessionError.notNow // never: the last try returns or throws
    }

    /// The seconds until it may be sent again, or nil if that would change nothing.
    private static func pause(_ answer: Answer, _ backoff: Double) -> Double? {
        let status = answer.response.statusCode
        if isOK(answer) || status == 412 { return nil } // 412: first read the profile again
        let problem = Self.problem(of: answer)
        guard problem.map({ $0.action == "retry" }) ?? (502...504).contains(status) else { return nil }
        return problem?.retryAfter ?? answer.response.value(forHTTPHeaderField: "Retry-After").flatMap(Double.init) ?? backoff
    }

    private static func isOK(_ answer: Answer) -> Bool { (200..<300).contains(answer.response.statusCode) }
}
