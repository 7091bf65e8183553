//! nginx as Debian packages it, in front of the API.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::world::World;

/// nginx in front of an address, on a port of its own.
pub struct Nginx {
    child: Child,
    pub address: String,
}

impl Nginx {
    /// None if nginx is not installed.
    pub fn start(world: &World, upstream: &str) -> Option<Self> {
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
        let program = program.into_iter().find(|path| std::path::Path::new(path).exists())?;
        let folder = world.path("nginx");
        std::fs::create_dir_all(&folder).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let here = folder.display();
        // The paths and the log are this test's; everything about requests is nginx's default.
        let config = format!(
            "daemon off;\npid {here}/pid;\nerror_log {here}/error.log;\nevents {{}}\nhttp {{\n\
             access_log off;\nclient_body_temp_path {here}/body;\nproxy_temp_path {here}/proxy;\n\
             fastcgi_temp_path {here}/f;\nuwsgi_temp_path {here}/u;\nscgi_temp_path {here}/s;\n\
             server {{\nlisten 127.0.0.1:{port};\nlocation / {{ proxy_pass {upstream}; }}\n}}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("-p").arg(&folder).stdin(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let nginx = Self { child, address: format!("http://127.0.0.1:{port}") };
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "nginx doesn't listen");
            std::thread::yield_now();
        }
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
