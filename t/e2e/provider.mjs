// A foreign authorization server in Qonto's place: npm oidc-provider, with Qonto's paths and manners
// (client_secret_post, rotating refresh tokens, scopes such as organization.read), stricter in one: PKCE is required.
//   PORT (optional), CLIENT_ID, CLIENT_SECRET, REDIRECT_URI
// Prints `ready {"port":N,"control":N}`. The control port is for the test alone:
//   GET  /_count            what the server was asked so far
//   GET  /_token?value=T    whether T is an access token that still works: {"active":true,"scope":"..."}
//   GET  /_life?seconds=N   how long the access tokens given from now on live
import { createServer } from 'node:http';
import { escapeHtml, listen, load } from './load.mjs';

const SCOPES = ['openid', 'offline_access', 'organization.read', 'membership.read'];
let accessTokenSeconds = 3600;

const Provider = await load('oidc-provider');
const count = { authorize: 0, token: 0, tokenErrors: [], refresh: 0, revoked: 0, otherPaths: [] };

function configuration({ clientId, clientSecret, redirectUri }) {
  return {
    clients: [{
      client_id: clientId,
      client_secret: clientSecret,
      redirect_uris: [redirectUri],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_post',
    }],
    routes: { authorization: '/oauth2/auth', token: '/oauth2/token', revocation: '/oauth2/revoke' },
    scopes: SCOPES,
    pkce: { required: () => true, methods: ['S256'] },
    rotateRefreshToken: true,
    issueRefreshToken: async (ctx, client, code) => code.scopes.has('offline_access'),
    ttl: {
      AccessToken: () => accessTokenSeconds,
      RefreshToken: 90 * 86400,
      IdToken: 3600,
      Interaction: 1800,
      Session: 86400,
      Grant: 90 * 86400,
    },
    cookies: { keys: ['only for this test'] },
    features: { devInteractions: { enabled: false }, revocation: { enabled: true } },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    findAccount: async (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id, email: `${id}@example.test` }) }),
  };
}

// --- what the visitor sees: a log-in page, then a consent page ---

function html(response, title, body) {
  response.setHeader('Content-Type', 'text/html; charset=utf-8');
  response.end(`<!doctype html><meta charset="utf-8"><title>${title}</title>\n<h1>${title}</h1>\n${body}\n`);
}

function loginPage(response, uid) {
  html(response, 'Log in', `<form method="post" action="/interaction/${uid}/login">
<label>User <input name="user" id="user" required></label> <button id="login">Log in</button></form>`);
}

function consentPage(response, uid, params) {
  html(response, 'Allow access?', `<p>The application asks for: ${escapeHtml(params.scope || 'nothing')}</p>
<form method="post" action="/interaction/${uid}/allow"><button id="allow">Allow</button></form>
<form method="post" action="/interaction/${uid}/refuse"><button id="refuse">Refuse</button></form>`);
}

async function formFields(request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  return new URLSearchParams(body);
}

// One grant for all tabs of a visitor, as the library's own pages do it.
async function grantEverythingAsked(provider, { grantId, params, session }) {
  const known = grantId && await provider.Grant.find(grantId);
  const grant = known || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope || '');
  return grant.save();
}

async function answer(provider, request, step, interaction) {
  if (step === 'login') {
    const user = (await formFields(request)).get('user');
    return { login: { accountId: user } };
  }
  if (step === 'allow') return { consent: { grantId: await grantEverythingAsked(provider, interaction) } };
  return { error: 'access_denied', error_description: 'The user refused <b>access</b>' };
}

async function interact(provider, request, response, [, uid, step]) {
  const interaction = await provider.interactionDetails(request, response);
  if (request.method === 'POST') {
    const result = await answer(provider, request, step, interaction);
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: step === 'allow' });
  }
  if (interaction.prompt.name === 'login') return loginPage(response, uid);
  return consentPage(response, uid, interaction.params);
}

// --- the public and the control server ---

function countEvents(provider) {
  provider.on('grant.success', (ctx) => {
    if (ctx.oidc.params.grant_type === 'refresh_token') count.refresh += 1;
  });
  for (const event of ['authorization.error', 'grant.error', 'revocation.error', 'server_error']) {
    provider.on(event, (ctx, error) => {
      const text = `${event}: ${error.error || error.message}: ${error.error_description || ''} ${error.error_detail || ''}`;
      console.error(text);
      if (event === 'grant.error') count.tokenErrors.push(text);
    });
  }
}

// The library tells nobody about a revocation, so count what it answered. It answers 200 to tokens it never saw too:
// /_token says whether the token really stopped working.
function countPath(request, response) {
  const { pathname } = new URL(request.url, 'http://provider');
  if (pathname === '/oauth2/auth') count.authorize += 1;
  else if (pathname === '/oauth2/token') count.token += 1;
  else if (pathname === '/oauth2/revoke') {
    response.on('finish', () => { if (response.statusCode === 200) count.revoked += 1; });
  } else if (!/^\/(oauth2\/auth\/|interaction\/|favicon\.ico$)/.test(pathname)) count.otherPaths.push(pathname);
}

function publicHandler(provider) {
  const oauth = provider.callback();
  return async (request, response) => {
    countPath(request, response);
    const interaction = /^\/interaction\/([^/?]+)(?:\/(login|allow|refuse))?$/.exec(request.url);
    if (!interaction) return oauth(request, response);
    try {
      return await interact(provider, request, response, interaction);
    } catch (error) {
      response.statusCode = 400;
      return html(response, 'Log-in broken', `<p>${escapeHtml(error.error_description || error.message)}</p>`);
    }
  };
}

async function tokenFacts(provider, value) {
  const token = await provider.AccessToken.find(value);
  return token ? { active: token.isValid, clientId: token.clientId, scope: token.scope } : { active: false };
}

function controlHandler(provider) {
  return async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://control');
    let facts = { error: `no ${pathname} here` };
    if (pathname === '/_count') facts = count;
    if (pathname === '/_life') {
      accessTokenSeconds = Number(searchParams.get('seconds'));
      facts = { seconds: accessTokenSeconds };
    }
    if (pathname === '/_token') facts = await tokenFacts(provider, searchParams.get('value') || '');
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(facts));
  };
}

const { PORT, CLIENT_ID: clientId, CLIENT_SECRET: clientSecret, REDIRECT_URI: redirectUri } = process.env;
if (!clientId || !clientSecret || !redirectUri) {
  console.error('provider.mjs: set CLIENT_ID, CLIENT_SECRET and REDIRECT_URI');
  process.exit(2);
}

// The issuer holds the port, so listen first and build the provider when the port is known.
const publicServer = createServer();
const port = await listen(publicServer, Number(PORT || 0));
const provider = new Provider(`http://localhost:${port}`, configuration({ clientId, clientSecret, redirectUri }));
countEvents(provider);
publicServer.on('request', publicHandler(provider));
const control = await listen(createServer(controlHandler(provider)));
console.log(`ready ${JSON.stringify({ port, control })}`);
