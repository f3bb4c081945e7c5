//! Passwords and certificates.

use super::*;
use crate::common::tls;

/// A server that asks for a password in clear text. It returns its port, and what each of so many connections sent it.
fn asking_for_the_password(connections: usize) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut sent = Vec::new();
        for _ in 0..connections {
            let (mut connection, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            connection.read_exact(&mut length).unwrap();
            let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
            connection.read_exact(&mut startup).unwrap();
            // AuthenticationCleartextPassword.
            connection.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap();
            connection.read_to_end(&mut sent).unwrap();
        }
        sent
    });
    (port, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_never_sent_in_clear_text_without_tls() {
    let (port, server) = asking_for_the_password(2);
    let database = format!("postgres://me:secret@127.0.0.1:{port}/x");
    for error in [PostgresStore::open(&url(&database)).await.err().unwrap(), check(&url(&database)).await.unwrap_err()]
    {
        assert!(matches!(error, OpenError::Failed { .. }), "there is nothing to wait for: {error}");
        let said = error.to_string();
        assert!(said.contains("in clear text") && said.contains("sslmode=verify-full"), "{said}");
        assert!(said.contains(&format!("postgres://me@127.0.0.1:{port}/x")) && !said.contains("secret"), "{said}");
    }
    assert_eq!(server.join().unwrap(), b"");
}

/// A server that can be made to take encrypted connections.
fn start_with_openssl() -> Option<Postgres> {
    if tls::has_openssl() { Postgres::start(&[]) } else { None }
}

/// Lets a server of this test take encrypted connections, under a new certificate.
fn encrypt(server: &Postgres, keys: &str) {
    let folder = server.folder().to_str().unwrap().to_owned();
    let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&folder).unwrap());
    let mut certify = tls::certify(server.folder(), keys);
    if rustix::process::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut certify, user);
    }
    assert!(certify.status().unwrap().success(), "{keys}");
    let database = server.database();
    for (setting, value) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")] {
        execute(&database, &format!("ALTER SYSTEM SET {setting} = '{folder}/{value}'"));
    }
    execute(&database, "ALTER SYSTEM SET ssl = on");
    server.stop("INT");
    server.start_again();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_elsewhere_must_prove_its_name_by_an_authority_that_is_trusted() {
    let Some(server) = start_with_openssl() else { return };
    let database = server.database();
    encrypt(&server, "rsa:2048");
    let folder = server.folder().to_str().unwrap();
    let named = |host: &str, options: &str| format!("{}{options}", database.replace("127.0.0.1", host));
    let trusted = format!("?sslrootcert={folder}/ca.pem");
    let store = open(&named("localhost", &trusted)).await;
    store.queue().write(create("a", 1)).await.unwrap();
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'stockroom' AND datname = current_database()";
    assert_eq!(query(&database, encrypted), ["t"]);
    let start = Instant::now();
    for (text, said) in [
        (named("localhost", "?sslmode=require"), "UnknownIssuer"),
        (named("127.0.0.1", &trusted), "not valid for name"),
        (named("localhost", "?sslrootcert=/no/such/file"), "/no/such/file"),
    ] {
        let error = PostgresStore::open(&url(&text)).await.err().expect("it is refused").to_string();
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(30), "no certificate becomes right by waiting");
    open(&named("127.0.0.1", "?sslmode=disable")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_taken_by_scram_in_plain_text_and_in_clear_text_over_tls_alone() {
    let Some(server) = start_with_openssl() else { return };
    let database = server.database();
    let rules = query(&database, "SHOW hba_file").remove(0);
    for (role, method) in [("by_scram", "scram-sha-256"), ("by_word", "password")] {
        execute(&database, &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'secret'"));
        let before = std::fs::read_to_string(&rules).unwrap();
        std::fs::write(&rules, format!("host all {role} all {method}\n{before}")).unwrap();
    }
    encrypt(&server, "ec -pkeyopt ec_paramgen_curve:P-256");
    let open = async |role: &str, host: &str, options: &str| {
        let database = database.replace("//tester@127.0.0.1", &format!("//{role}:secret@{host}"));
        let opened = PostgresStore::open(&url(&format!("{database}{options}"))).await;
        opened.map(drop).map_err(|error| error.to_string())
    };
    let trusted = format!("?sslrootcert={}/ca.pem", server.folder().to_str().unwrap());
    assert_eq!(open("by_scram", "127.0.0.1", "").await, Ok(()));
    let refused = open("by_word", "127.0.0.1", "").await.unwrap_err();
    assert!(refused.contains("in clear text") && !refused.contains("secret"), "{refused}");
    assert_eq!(open("by_word", "localhost", &trusted).await, Ok(()));
}

#[test]
fn a_certificate_proves_a_name_whatever_kind_its_keys_are_of() {
    let Some(server) = start_with_openssl() else { return };
    let database = server.database();
    let check = |options: &str| {
        let database = format!("{}{options}", database.replace("127.0.0.1", "localhost"));
        let output = crate::common::run(&["check", "--database", &database]);
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    drop(Server::start_in(Inventory::at(&*database), &[]));
    for keys in ["rsa:3072", "ec -pkeyopt ec_paramgen_curve:P-256", "ec -pkeyopt ec_paramgen_curve:P-384", "ed25519"] {
        encrypt(&server, keys);
        let trusting = |file: &str| check(&format!("?sslrootcert={}/{file}", server.folder().to_str().unwrap()));
        let (accepted, said) = trusting("ca.pem");
        assert!(accepted, "{keys}: {said}");
        let (accepted, said) = trusting("other.pem");
        assert!(!accepted && said.contains("BadSignature"), "{keys}: {said}");
        let (accepted, said) = check("?sslmode=require");
        assert!(!accepted && said.contains("UnknownIssuer"), "{keys}: {said}");
    }
}
