/** The story of docs/clients/README.md, told to docs/clients/kotlin/Session.kt by a service that is played here. */

import java.io.IOException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.delay
import kotlinx.coroutines.runBlocking
import session.Answer
import session.Http
import session.NotNow
import session.NotSignedIn
import session.Request
import session.Session
import session.TokenStore

class Memory(@Volatile var token: String?) : TokenStore {
    override suspend fun load() = token
    override suspend fun save(refreshToken: String) { token = refreshToken }
    override suspend fun clear() { token = null }
}

fun json(status: Int, body: String) =
    Answer(status, if (status < 400) "application/json" else "application/problem+json", null, body.toByteArray())

fun problem(status: Int, code: String, action: String, more: String = "") =
    json(status, """{"code": "$code", "action": "$action"$more}""")

/** Enough of JSON for what is sent here; an app uses Moshi or another. */
fun parse(text: String): Map<*, *>? {
    if (!text.startsWith("{")) return null
    if ("\"tokens\"" in text) return mapOf("tokens" to parse(text.substring(text.indexOf('{', 1), text.length - 1)))
    return Regex("\"(\\w+)\": (?:\"([^\"]*)\"|(\\d+))").findAll(text).associate {
        it.groupValues[1] to (it.groups[2]?.value ?: it.groupValues[3].toInt())
    }
}

/** One session as the service keeps it: the token of a generation gives its one successor, as often as it is asked. */
class Service : Http {
    val asked = mutableListOf<Request>()
    val weather = ArrayDeque<suspend (Request) -> Answer>()
    var ended = false
    var accepted = "access 0"

    override suspend fun send(url: String, request: Request): Answer {
        check(url == "https://example.com/api/v1" + request.path)
        val next = synchronized(asked) { asked += request; weather.removeFirstOrNull() }
        return (next ?: ::answer)(request)
    }

    suspend fun answer(request: Request): Answer {
        delay(5)
        return when (request.path) {
            "/token", "/token/refresh" -> {
                if (ended) return problem(401, "session_revoked", "sign_in")
                val given = Regex("refresh (\\d+)").find(request.body!!.decodeToString())?.groupValues?.get(1)?.toInt() ?: -1
                accepted = "access ${given + 1}"
                val tokens = """{"access_token": "$accepted", "refresh_token": "refresh ${given + 1}", "expires_in": 900}"""
                json(200, if (request.path == "/token") """{"tokens": $tokens}""" else tokens)
            }
            "/token/revoke" -> json(204, "")
            else ->
                if (!ended && request.headers["Authorization"] == "Bearer $accepted") json(200, "{}")
                else problem(401, "token_expired", "refresh")
        }
    }

    fun count(path: String) = asked.count { it.path == path }
}

class App(val service: Service = Service()) {
    val store = Memory(null)
    val waits = mutableListOf<Double>()
    var signedOut = 0
    var updates = 0
    var clock = 0L
    val session = Session(
        "https://example.com/api/v1", service, store, "7.1", ::parse, { signedOut += 1 }, { updates += 1 }, { true },
        { waits += it }, { clock },
    )

    suspend fun signIn() = check(session.send(Request("POST", "/token", "{}".toByteArray())).status == 200)

    suspend fun me() = session.send(Request("GET", "/me")).status

    suspend fun crowd() = runBlocking(Dispatchers.Default) { List(16) { async { me() } }.awaitAll() }
}

fun expect(found: Any?, wanted: Any?) = check(found == wanted) { "$found, not $wanted" }

suspend fun refuses(kind: Class<*>, work: suspend () -> Any) =
    expect(runCatching { work() }.exceptionOrNull()?.javaClass, kind)

fun main() = runBlocking {
    val app = App()
    val service = app.service
    val lost: suspend (Request) -> Answer = { service.answer(it); throw IOException("connection reset") }
    val tunnel: suspend (Request) -> Answer = { throw IOException("no route") }

    service.weather += lost
    app.signIn()
    val keys = service.asked.map { it.headers["Idempotency-Key"] }
    check(keys.size == 2 && keys[0] != null && keys[0] == keys[1])
    expect(service.asked.last().headers["X-App-Version"], "7.1")
    println("signed in, though the answer was lost")

    app.clock += 900_000
    expect(app.crowd(), List(16) { 200 })
    expect(service.count("/token/refresh"), 1)
    service.accepted = "another" // the token is refused before its time
    expect(app.crowd(), List(16) { 200 })
    expect(service.count("/token/refresh"), 2)
    println("refreshed once for 16 requests")

    app.clock += 900_000
    service.weather += listOf(lost, lost)
    expect(app.me(), 200)
    expect(service.count("/token/refresh"), 5)
    expect(app.store.token, "refresh 3")
    println("refreshed, though the answer was lost twice")

    app.waits.clear()
    service.weather += { problem(503, "overloaded", "retry", """, "retry_after": 7""") }
    service.weather += { Answer(502, "text/html", "3", "<h1>Bad gateway</h1>".toByteArray()) }
    expect(app.me(), 200)
    expect(app.waits, listOf(7.0, 3.0))
    println("waited as long as it was told to")

    service.weather += { problem(403, "recent_sign_in_needed", "reauthenticate") }
    expect(app.me(), 200)
    service.weather += { problem(400, "of_tomorrow", "update_app") }
    expect(app.me(), 400)
    expect(app.updates, 1)
    println("did what a problem asked for")

    val hotel: suspend (Request) -> Answer = { Answer(200, "text/html", null, "<h1>Welcome</h1>".toByteArray()) }
    val busy: suspend (Request) -> Answer = { problem(503, "overloaded", "retry", """, "retry_after": 600""") }
    for (sky in listOf(listOf(hotel), List(4) { tunnel }, listOf(busy))) {
        app.clock += 900_000
        service.weather += sky
        refuses(NotNow::class.java) { app.me() }
        expect(service.weather.size, 0)
    }
    service.weather += List(4) { tunnel } // one refresh fails for all who wait for it, and not one after the other
    expect(runBlocking(Dispatchers.Default) { List(16) { async { runCatching { app.me() }.isFailure } }.awaitAll() }.any { it }, true)
    expect(service.weather.size, 0)
    expect(app.me() to app.signedOut, 200 to 0)
    println("stayed signed in")

    service.ended = true
    expect(app.me(), 401)
    expect(app.store.token to app.signedOut, null to 1)
    refuses(NotSignedIn::class.java) { app.me() }
    service.ended = false
    app.signIn()
    service.weather += tunnel
    app.session.signOut()
    expect(app.store.token to app.signedOut, null to 1)
    println("signed out")
}
