//! The proxy's file: who can reach it, what it replaces, and its end.

use super::*;

fn open(path: &Path) -> Result<EgressProxy, super::super::EgressError> {
    EgressProxy::open(path, policy(&["api.example.com"]))
}

#[tokio::test]
async fn socket_is_closed_to_other_users() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("egress").join("r7.sock");
    let _proxy = open(&path).unwrap();
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    // A folder of an earlier, more careless process.
    let other = folder.path().join("open");
    std::fs::create_dir(&other).unwrap();
    let wide = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&other, wide).unwrap();
    let _other = open(&other.join("r8.sock")).unwrap();
    assert_eq!(mode(&other), 0o700);
}

#[tokio::test]
async fn socket_may_have_a_longer_path_than_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("a".repeat(100)).join("b".repeat(100)).join("egress");
    let path = long.join("r7.sock");
    let _proxy = open(&path).unwrap();
    // The launcher binds it to a short path in the sandbox; here a link stands for that.
    let short = folder.path().join("s");
    std::os::unix::fs::symlink(&long, &short).unwrap();
    let mut stream = UnixStream::connect(short.join("r7.sock")).await.unwrap();
    stream.write_all(b"CONNECT evil.example.org:443 HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn only_a_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("egress").join("r7.sock");
    std::fs::create_dir(folder.path().join("egress")).unwrap();
    // A socket that nobody listens at any more.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(open(&path).unwrap());
    std::fs::write(&path, "precious").unwrap();
    let error = crate::error::chain(&open(&path).unwrap_err());
    let expected = format!("open the egress proxy's socket {}: it is not a socket", path.display());
    assert_eq!(error, expected);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    // Neither does it follow a link, at the file or at its folder.
    let target = folder.path().join("target");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(open(&path).is_err() && !target.exists());
    std::fs::create_dir(&target).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(open(&link.join("r7.sock")).is_err());
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
}

#[tokio::test]
async fn drop_removes_the_socket_and_ends_its_tunnels() {
    let proxy = TestProxy::to_echo(EgressLimits::default()).await;
    let mut stream = proxy.tunnel("api.example.com:443").await;
    let TestProxy { proxy, socket, _folder, .. } = proxy;
    drop(proxy);
    assert!(!socket.exists());
    assert_eq!(rest(&mut stream).await, "");
    assert!(UnixStream::connect(&socket).await.is_err());
}

#[tokio::test]
async fn drop_leaves_the_socket_of_a_later_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("egress").join("r7.sock");
    let earlier = open(&path).unwrap();
    let later = open(&path).unwrap();
    drop(earlier);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"CONNECT evil.example.org:443 HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 403 "));
    drop(later);
    assert!(!path.exists());
}
