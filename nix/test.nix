# Runs the service in a virtual machine: it serves, keeps the inventory over a restart, and is backed up.
{ module }:

{
  name = "stockroom";

  nodes.machine = {
    imports = [ module ];
    services.stockroom = {
      enable = true;
      backup.enable = true;
      settings.MAX_CONNECTIONS = 64;
    };
  };

  testScript = ''
    import json

    service = "http://127.0.0.1:8080"
    item = json.dumps({"id": "a", "name": "A"})

    machine.wait_for_unit("stockroom.service")
    machine.wait_until_succeeds(f"curl --fail -s {service}/readyz", timeout=30)
    create = f"curl --fail-with-body -s -H 'Content-Type: application/json' -d '{item}' {service}/inventory"
    created = json.loads(machine.succeed(create))

    machine.succeed("systemctl restart stockroom.service")
    machine.wait_until_succeeds(f"curl --fail -s {service}/readyz", timeout=30)
    assert json.loads(machine.succeed(f"curl --fail -s {service}/inventory/a")) == created

    machine.succeed("systemctl start stockroom-backup.service")
    machine.succeed("test $(find /var/lib/stockroom/backups/ -name '*Z.db' | wc -l) = 1")
    machine.succeed("systemctl list-timers stockroom-backup.timer | grep stockroom-backup.service")

    pid = machine.succeed("systemctl show --property MainPID --value stockroom.service").strip()
    assert machine.succeed(f"ps -o user= -p {pid}").startswith("stockroo")
    score = machine.succeed("systemd-analyze security --no-pager stockroom.service | tail -n 1")
    print(score)
    assert float(score.split(":")[1].split()[0]) < 2
  '';
}
