{
  lib,
  dockerTools,
  stockroom,
}:

let
  # Numeric, because the image has no /etc/passwd to look a name up in.
  user = "65532:65532";
  seconds = count: count * 1000000000;
in
dockerTools.buildLayeredImage {
  name = "stockroom";
  tag = stockroom.version;

  # A date of the build would give every build another digest.
  created = "1970-01-01T00:00:01Z";

  # A fresh named volume takes its owner and mode from the folder it covers.
  fakeRootCommands = ''
    mkdir -m 0750 data
    chown ${user} data
  '';

  config = {
    Entrypoint = [ (lib.getExe stockroom) ];
    User = user;
    WorkingDir = "/data";
    Env = [
      # `docker exec` finds the program by it. A link to it would be in a layer of its own, and change with it.
      "PATH=${stockroom}/bin"
      "STOCKROOM_LISTEN=0.0.0.0:8080"
      "STOCKROOM_DATABASE=sqlite:/data/stockroom.db"
    ];
    ExposedPorts."8080/tcp" = { };
    Volumes."/data" = { };
    StopSignal = "SIGTERM";
    Healthcheck = {
      Test = [
        "CMD"
        (lib.getExe stockroom)
        "healthcheck"
      ];
      Interval = seconds 10;
      # `healthcheck` itself gives up after 3 s, and says why.
      Timeout = seconds 5;
      StartPeriod = seconds 5;
      Retries = 3;
    };
    # Neither revision nor date: they would change the digest of an image that runs the same bytes.
    Labels = {
      "org.opencontainers.image.title" = "stockroom";
      "org.opencontainers.image.description" = stockroom.meta.description;
      "org.opencontainers.image.version" = stockroom.version;
      "org.opencontainers.image.licenses" = stockroom.meta.license.spdxId;
    };
  };
}
