//! Waits for a cluster that was just started, and says what it waits for.

use std::time::{Duration, Instant};

use super::{Cluster, Flavour};
use crate::progress::{self, Step};
use crate::{buildah, processes};

impl Cluster {
    /// Waits for each part in the order in which they need each other, giving the node what it
    /// lacks on the way; repeating it does no harm.
    pub(super) fn wait_until_ready(&self) -> anyhow::Result<()> {
        let mut step = Step::start(format!("starting the cluster {:?}", self.name));
        self.wait_for(&mut step, "the API server", "kube-apiserver", &["get", "--raw=/readyz"], |_| true)?;
        self.wait_for(
            &mut step,
            "the namespace default",
            "kube-apiserver",
            &["get", "namespace", "default"],
            |_| true,
        )?;
        if self.flavour == Flavour::Node {
            let addons = self.folders.configuration().join("addons.yaml");
            let addons = addons.to_string_lossy();
            self.wait_for(
                &mut step,
                "storage and DNS permissions",
                "kube-apiserver",
                &["apply", "-f", &addons],
                |_| true,
            )?;
            let socket = Instant::now();
            while let Err(error) = self.load_image(&buildah::pause_image()?) {
                anyhow::ensure!(
                    socket.elapsed() < Duration::from_secs(30),
                    "{error}\n{}",
                    self.explain("containerd")
                );
                std::thread::sleep(Duration::from_millis(200));
            }
            let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
            self.wait_for(
                &mut step,
                "the node",
                "kubelet",
                &["get", "node", &self.name, "-o", ready],
                |out| out == "True",
            )?;
            let account = ["get", "serviceaccount", "default"];
            self.wait_for(
                &mut step,
                "the service account default",
                "kube-controller-manager",
                &account,
                |_| true,
            )?;
            let dns = Instant::now();
            let probe = r"exec 3<>/dev/tcp/127.0.0.1/8181; printf 'GET /ready HTTP/1.0\r\n\r\n' >&3; grep -q ' 200 ' <&3";
            while progress::output(self.inside("bash").args(["-c", probe])).is_err() {
                anyhow::ensure!(
                    dns.elapsed() < Duration::from_mins(1),
                    "DNS did not become ready\n{}",
                    self.explain("coredns")
                );
                step.tick("DNS");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        step.done();
        Ok(())
    }

    /// Repeats a kubectl command until it succeeds with the wanted output.
    fn wait_for(
        &self,
        step: &mut Step,
        what: &str,
        component: &str,
        arguments: &[&str],
        good: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let attempt = progress::output(self.kubectl().args(arguments));
            match attempt {
                Ok(output) if good(&output) => return Ok(()),
                _ if !processes::is_alive(self.pid) => {
                    anyhow::bail!(
                        "the node has ended: {}",
                        progress::tail(&self.folders.logs().join("supervisor.log"))
                    )
                }
                Ok(_) | Err(_) if Instant::now() < deadline => {}
                Ok(output) => anyhow::bail!(
                    "waited 90 s for {what}; last answer: {output}\n{}",
                    self.explain(component)
                ),
                Err(error) => anyhow::bail!("waited 90 s for {what}: {error}\n{}", self.explain(component)),
            }
            step.tick(&format!("waiting for {what}"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn explain(&self, component: &str) -> String {
        let log = self.folders.logs().join(format!("{component}.log"));
        format!("{}\nThe whole log: {}", progress::tail(&log), log.display())
    }
}
