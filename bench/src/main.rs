//! The limits that the auth server is measured against: routes that answer the same bytes as `/validate`,
//! one without looking at anything, one after nothing but the check of an HS256 signature. And tokens by
//! the thousand, signed as the server signs them.

use std::{
    io::{BufWriter, Write},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::Context as _;
use authservice::server::{
    keys::unix_now,
    tokens::{self, KeyRing, Subject, Terms},
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
    routing::any,
    serve::ListenerExt as _,
};
use clap::{Parser, Subcommand};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

const USERNAME: &str = "ann@example.org";
const USER_ID: i64 = 1;

#[derive(Parser)]
struct Arguments {
    /// The HS256 key, as the server reads it
    #[arg(env = "JWT_SECRET", hide_env_values = true)]
    secret: String,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Answers without looking
    Bare { listen: SocketAddr },
    /// Answers when the signature is good
    Verify { listen: SocketAddr },
    /// Prints tokens, one a line
    Tokens { count: usize },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { secret, task } = Arguments::parse();
    match task {
        Task::Bare { listen } => serve(listen, bare(&Answer::to(&secret)?)).await,
        Task::Verify { listen } => serve(listen, verify(&secret)?).await,
        Task::Tokens { count } => print_tokens(&KeyRing::single(secret.as_bytes()), count),
    }
}

async fn serve(listen: SocketAddr, router: Router) -> anyhow::Result<()> {
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("listen at {listen}"))?;
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

/// What `/validate` answers to a token of the user.
#[derive(Clone)]
struct Answer {
    claims: Bytes,
    user: HeaderValue,
    username: HeaderValue,
}

impl Answer {
    fn to(secret: &str) -> anyhow::Result<Self> {
        let ring = KeyRing::single(secret.as_bytes());
        let verified = tokens::verify(&ring, &terms(), &token(&ring)?, unix_now())
            .map_err(|fault| anyhow::anyhow!("a token of ours is refused: {fault}"))?;
        Ok(Self {
            claims: verified.claims,
            user: HeaderValue::from(USER_ID),
            username: HeaderValue::from_static(USERNAME),
        })
    }

    fn response(&self) -> Response {
        const USER: HeaderName = HeaderName::from_static("x-auth-request-user");
        const EMAIL: HeaderName = HeaderName::from_static("x-auth-request-email");
        const FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
        let mut response = Response::new(Body::from(self.claims.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER, self.user.clone());
        headers.insert(EMAIL, self.username.clone());
        headers.insert(FORWARDED_USER, self.username.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn bare(answer: &Answer) -> Router {
    let answer = Arc::new(answer.clone());
    Router::new()
        .route("/validate", any(async |State(answer): State<Arc<Answer>>| answer.response()))
        .with_state(answer)
}

struct Verifier {
    key: DecodingKey,
    validation: Validation,
    answer: Answer,
}

/// The one claim that has to be looked at.
#[derive(Deserialize)]
struct Expiry {
    #[expect(dead_code, reason = "jsonwebtoken looks at it")]
    exp: u64,
}

fn verify(secret: &str) -> anyhow::Result<Router> {
    let verifier = Verifier {
        key: DecodingKey::from_secret(secret.as_bytes()),
        validation: Validation::new(Algorithm::HS256),
        answer: Answer::to(secret)?,
    };
    Ok(Router::new().route("/validate", any(verify_one)).with_state(Arc::new(verifier)))
}

async fn verify_one(State(verifier): State<Arc<Verifier>>, headers: HeaderMap) -> Response {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let good = token
        .and_then(|token| jsonwebtoken::decode::<Expiry>(token, &verifier.key, &verifier.validation).ok());
    match good {
        Some(_) => verifier.answer.response(),
        None => StatusCode::FORBIDDEN.into_response(),
    }
}

fn terms() -> Terms {
    Terms { issuer: "authservice".to_owned(), audience: None, ttl_seconds: 86_400 }
}

fn token(ring: &KeyRing) -> anyhow::Result<String> {
    let subject = Subject { id: USER_ID, username: USERNAME, admin: true, generation: 0 };
    Ok(tokens::issue(ring, &terms(), &subject, unix_now())?)
}

fn print_tokens(ring: &KeyRing, count: usize) -> anyhow::Result<()> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    for _ in 0..count {
        writeln!(output, "{}", token(ring)?)?;
    }
    Ok(output.flush()?)
}
