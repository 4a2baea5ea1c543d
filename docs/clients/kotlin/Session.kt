package session

import java.io.IOException
import java.util.UUID
import kotlin.random.Random
import kotlinx.coroutines.delay
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock

/** `path` begins behind `/api/v1`: "/me". */
class Request(
    val method: String,
    val path: String,
    val body: ByteArray? = null,
    val contentType: String = "application/json",
    val headers: Map<String, String> = emptyMap(),
)

class Answer(val status: Int, val contentType: String?, val retryAfter: String?, val body: ByteArray) {
    val isOk get() = status in 200..299
}

/** The HTTP library that the app has. Throws IOException without a network. */
fun interface Http {
    suspend fun send(url: String, request: Request): Answer
}

/** An AES-GCM key in the Keystore, the token encrypted by it in `noBackupFilesDir`. `save` writes all of it or nothing. */
interface TokenStore {
    suspend fun load(): String?
    suspend fun save(refreshToken: String)
    suspend fun clear()
}

/** What an error's body says, as far as it is needed here. */
class Problem(val code: String, val action: String, val retryAfter: Double?)

/** Nobody is signed in. */
class NotSignedIn : Exception()

/** No answer of the service just now, such as in a tunnel or behind a hotel's login page. The person stays signed in. */
class NotNow : IOException()

/** A signed-in app (docs/clients/README.md). Needs kotlinx-coroutines and nothing else. */
class Session(
    private val api: String,
    private val http: Http,
    private val store: TokenStore,
    private val appVersion: String,
    /** JSON as maps, or null: with Moshi `moshi.adapter(Any::class.java).fromJson(it) as? Map<*, *>`. */
    private val parse: (String) -> Map<*, *>?,
    private val onSignedOut: () -> Unit,
    /** This version of the app is too old for what the service answered. */
    private val onUpdateApp: () -> Unit = {},
    /** Ask for the password and call `reauthenticate` with it. True: the request is sent once more. */
    private val reauthenticate: suspend () -> Boolean = { false },
    private val sleep: suspend (seconds: Double) -> Unit = { delay((it * 1000).toLong()) },
    private val now: () -> Long = System::currentTimeMillis,
) {
    private class Access(val token: String, val validUntil: Long)

    private val mutex = Mutex()
    @Volatile private var access: Access? = null
    @Volatile private var rounds = 0

    /** Sends the token, tries again, and takes new tokens. */
    suspend fun send(request: Request): Answer {
        val signed = sign(request)
        val mine = OF_AN_ACCOUNT.containsMatchIn(request.path)
        var answer = call(signed, mine)
        val problem = problemOf(answer)
        if (problem?.action == "reauthenticate" && reauthenticate()) answer = call(signed, mine)
        // A second factor is no reason to update: `ticket` is for `finishSignIn`.
        if (problem?.action == "update_app" && problem.code != "mfa_required") onUpdateApp()
        if (answer.isOk && !mine && request.method == "POST") (json(answer)?.get("tokens") as? Map<*, *>)?.let { take(it) }
        return answer
    }

    /** An access token that works, or null if nobody is signed in. `not`: this one was refused. Throws NotNow. */
    suspend fun accessToken(not: String? = null): String? {
        val asked = rounds
        return mutex.withLock {
            access?.takeIf { it.token != not && it.validUntil > now() + 30_000 }?.let { return it.token }
            val token = store.load() ?: return null
            if (rounds != asked) throw NotNow() // the refresh that this one waited for has failed
            try {
                refresh(token)
            } finally {
                rounds++
            }
        }
    }

    /** Signs this device out, without a network too. */
    suspend fun signOut() {
        val token = mutex.withLock { store.load().also { forget() } } ?: return
        try {
            http.send("$api/token/revoke", refreshRequest("/token/revoke", token))
        } catch (_: IOException) { // it expires by itself
        }
    }

    fun problemOf(answer: Answer): Problem? {
        if (answer.contentType?.startsWith("application/problem+json") != true) return null
        val body = json(answer) ?: return null
        return Problem("${body["code"]}", "${body["action"]}", (body["retry_after"] as? Number)?.toDouble())
    }

    private fun sign(request: Request): Request {
        val headers = mutableMapOf("X-App-Version" to appVersion)
        if (request.method !in READS) headers["Idempotency-Key"] = UUID.randomUUID().toString()
        return with(request) { Request(method, path, body, contentType, headers + this.headers) }
    }

    /** Sends it; after a 401 once more with a new token. Whether the session has ended is said by refreshing alone. */
    private suspend fun call(request: Request, mine: Boolean): Answer {
        if (!mine) return patiently(request)
        val token = accessToken() ?: throw NotSignedIn()
        val answer = patiently(request, token)
        if (answer.status != 401) return answer
        return patiently(request, accessToken(not = token) ?: return answer)
    }

    private suspend fun refresh(token: String): String? {
        // The same token gets the same answer, however often it is sent.
        val answer = try {
            patiently(refreshRequest("/token/refresh", token))
        } catch (_: IOException) {
            throw NotNow()
        }
        if (answer.isOk) json(answer)?.let { tokens -> take(tokens)?.let { return it } }
        if (problemOf(answer)?.action != "sign_in") throw NotNow()
        forget()
        onSignedOut()
        return null
    }

    private fun refreshRequest(path: String, token: String) =
        Request("POST", path, "{\"refresh_token\": \"$token\"}".toByteArray(), headers = mapOf("X-App-Version" to appVersion))

    private suspend fun take(tokens: Map<*, *>): String? {
        val token = tokens["access_token"] as? String ?: return null
        store.save(tokens["refresh_token"] as? String ?: return null) // first in the store, then in use
        access = Access(token, now() + (tokens["expires_in"] as Number).toLong() * 1000)
        return token
    }

    private suspend fun forget() {
        access = null
        store.clear()
    }

    /** Sends it again while there is no answer, or one that says so. All writes have an Idempotency-Key, so they may be. */
    private suspend fun patiently(request: Request, token: String? = null): Answer {
        val authorized = token?.let { mapOf("Authorization" to "Bearer $it") }.orEmpty()
        val sent = with(request) { Request(method, path, body, contentType, headers + authorized) }
        for (tries in 1..TRIES) {
            val backoff = (1 shl (tries - 1)) * (0.5 + Random.nextDouble())
            val wait = try {
                val answer = http.send(api + request.path, sent)
                val wait = pause(answer, backoff)
                if (wait == null || wait > PATIENCE || tries == TRIES) return answer
                wait
            } catch (error: IOException) {
                if (tries == TRIES) throw error
                backoff
            }
            sleep(wait)
        }
        throw NotNow() // never: the last try returns or throws
    }

    /** The seconds until it may be sent again, or null if that would change nothing. */
    private fun pause(answer: Answer, backoff: Double): Double? {
        if (answer.isOk || answer.status == 412) return null // 412: first read the profile again
        val problem = problemOf(answer)
        val again = if (problem != null) problem.action == "retry" else answer.status in 502..504
        return if (again) problem?.retryAfter ?: answer.retryAfter?.toDoubleOrNull() ?: backoff else null
    }

    private fun json(answer: Answer): Map<*, *>? = try {
        parse(answer.body.decodeToString())
    } catch (_: Exception) {
        null // a hotel's page
    }

    private companion object {
        val OF_AN_ACCOUNT = Regex("^/(me|users)(/|\\?|$)") // the operations that need an access token
        val READS = setOf("GET", "HEAD")
        const val TRIES = 4
        const val PATIENCE = 30.0 // seconds that a request waits before it is sent again; after that the caller decides
    }
}
