import 'dart:async';
import 'dart:convert';
import 'dart:math';

import 'package:http/http.dart' as http;
import 'package:uuid/uuid.dart';

/// flutter_secure_storage, for instance. [save] writes all of it or nothing.
abstract interface class TokenStore {
  Future<String?> load();
  Future<void> save(String refreshToken);
  Future<void> clear();
}

/// What every error's body says (application/problem+json).
class Problem {
  Problem(this.body);

  final Map<String, dynamic> body;

  String get code => body['code'] as String? ?? '';
  String get action => body['action'] as String? ?? '';
  num? get retryAfter => body['retry_after'] as num?;
}

/// Nobody is signed in.
class NotSignedIn implements Exception {}

/// No answer of the service just now, such as in a tunnel or behind a hotel's login page. The person stays signed in.
class NotNow implements Exception {}

/// A signed-in app (docs/clients/README.md). Needs the packages http and uuid.
class Session {
  /// [api]: https://accounts.example.com/api/v1
  Session({
    required this.api,
    required this.store,
    required this.appVersion,
    required this.onSignedOut,
    this.onUpdateApp,
    this.reauthenticate,
    http.Client? client,
    Future<void> Function(double seconds)? sleep,
  })  : _client = client ?? http.Client(),
        _sleep = sleep ?? ((seconds) => Future<void>.delayed(Duration(milliseconds: (seconds * 1000).round())));

  final String api;
  final TokenStore store;
  final String appVersion;
  final void Function() onSignedOut;

  /// This version of the app is too old for what the service answered.
  final void Function()? onUpdateApp;

  /// Ask for the password and call `reauthenticate` with it. True: the request is sent once more.
  final Future<bool> Function()? reauthenticate;

  final http.Client _client;
  final Future<void> Function(double seconds) _sleep;
  ({String token, DateTime validUntil})? _access;
  Future<String?>? _running;

  // The operations that need an access token.
  static final _ofAnAccount = RegExp(r'^/(me|users)(/|\?|$)');
  static const _tries = 4;
  static const _patience = 30.0; // seconds that a request waits before it is sent again; after that the caller decides

  /// Sends the token, tries again, and takes new tokens. [path] begins behind the address: '/me'.
  Future<http.Response> send(String method, String path, {Object? json}) async {
    final mine = _ofAnAccount.hasMatch(path);
    final headers = {'X-App-Version': appVersion, if (method != 'GET') 'Idempotency-Key': const Uuid().v4()};
    final body = json == null ? null : jsonEncode(json);
    Future<http.Response> call() => _call(method, path, headers, body, mine);
    var response = await call();
    final problem = problemOf(response);
    if (problem?.action == 'reauthenticate' && await (reauthenticate?.call() ?? Future.value(false))) {
      response = await call();
    }
    // A second factor is no reason to update: `ticket` is for `finishSignIn`.
    if (problem?.action == 'update_app' && problem?.code != 'mfa_required') onUpdateApp?.call();
    if (_isOk(response) && !mine && method == 'POST') {
      final tokens = _json(response)?['tokens'];
      if (tokens is Map<String, dynamic>) await _take(tokens);
    }
    return response;
  }

  static Problem? problemOf(http.Response response) {
    if (!(response.headers['content-type'] ?? '').startsWith('application/problem+json')) return null;
    final body = _json(response);
    return body == null ? null : Problem(body);
  }

  /// An access token that works, or null if nobody is signed in. [not]: this one was refused. Throws [NotNow].
  Future<String?> accessToken({String? not}) {
    final access = _access;
    final soon = DateTime.now().add(const Duration(seconds: 30));
    if (access != null && access.token != not && access.validUntil.isAfter(soon)) return Future.value(access.token);
    return _running ??= _refresh().whenComplete(() => _running = null); // one for all who ask meanwhile
  }

  /// Signs this device out, without a network too.
  Future<void> signOut() async {
    final token = await store.load();
    await _forget();
    if (token == null) return;
    await _post('/token/revoke', token, 1).then<void>((_) {}, onError: (_) {}); // it expires by itself
  }

  /// Sends it; after a 401 once more with a new token. Whether the session has ended is said by refreshing alone.
  Future<http.Response> _call(String method, String path, Map<String, String> headers, String? body, bool mine) async {
    if (!mine) return _patiently(method, path, headers, body);
    Future<http.Response> by(String token) =>
        _patiently(method, path, {...headers, 'Authorization': 'Bearer $token'}, body);
    final token = await accessToken();
    if (token == null) throw NotSignedIn();
    final response = await by(token);
    if (response.statusCode != 401) return response;
    final fresh = await accessToken(not: token);
    return fresh == null ? response : by(fresh);
  }

  Future<String?> _refresh() async {
    final token = await store.load();
    if (token == null) return null;
    final http.Response response;
    try {
      response = await _post('/token/refresh', token); // the same token gets the same answer, however often it is sent
    } on http.ClientException {
      throw NotNow();
    }
    if (await store.load() != token) return _refresh(); // signed out or in meanwhile
    if (_isOk(response)) {
      final tokens = _json(response);
      if (tokens?['refresh_token'] is String) return _take(tokens!);
    }
    if (problemOf(response)?.action != 'sign_in') throw NotNow();
    await _forget();
    onSignedOut();
    return null;
  }

  Future<http.Response> _post(String path, String token, [int most = _tries]) =>
      _patiently('POST', path, {'X-App-Version': appVersion}, jsonEncode({'refresh_token': token}), most);

  Future<String> _take(Map<String, dynamic> tokens) async {
    await store.save(tokens['refresh_token'] as String); // first in the store, then in use
    final token = tokens['access_token'] as String;
    _access = (token: token, validUntil: DateTime.now().add(Duration(seconds: tokens['expires_in'] as int)));
    return token;
  }

  Future<void> _forget() async {
    _access = null;
    await store.clear();
  }

  /// Sends it again while there is no answer, or one that says so. All writes have an Idempotency-Key, so they may be.
  Future<http.Response> _patiently(String method, String path, Map<String, String> headers, String? body,
      [int most = _tries]) async {
    for (var tries = 1;; tries++) {
      final backoff = pow(2, tries - 1) * (0.5 + Random().nextDouble());
      num wait = backoff;
      try {
        final request = http.Request(method, Uri.parse('$api$path'))..headers.addAll(headers);
        if (body != null) {
          request.headers['Content-Type'] = 'application/json';
          request.bodyBytes = utf8.encode(body);
        }
        final response = await http.Response.fromStream(await _client.send(request));
        final pause = _pause(response, backoff);
        if (pause == null || pause > _patience || tries >= most) return response;
        wait = pause;
      } on http.ClientException {
        if (tries >= most) rethrow;
      }
      await _sleep(wait.toDouble());
    }
  }

  /// The seconds until it may be sent again, or null if that would change nothing.
  static num? _pause(http.Response response, num backoff) {
    final status = response.statusCode;
    if (_isOk(response) || status == 412) return null; // 412: first read the profile again
    final problem = problemOf(response);
    final again = problem == null ? status >= 502 && status <= 504 : problem.action == 'retry';
    return again ? problem?.retryAfter ?? num.tryParse(response.headers['retry-after'] ?? '') ?? backoff : null;
  }

  static bool _isOk(http.Response response) => response.statusCode >= 200 && response.statusCode < 300;

  static Map<String, dynamic>? _json(http.Response response) {
    try {
      return jsonDecode(utf8.decode(response.bodyBytes)) as Map<String, dynamic>;
    } catch (_) {
      return null; // a hotel's page
    }
  }
}
