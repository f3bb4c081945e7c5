{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.stockroom;

  # Every unit below runs as this user, whom systemd makes up while one of them runs.
  confined = {
    DynamicUser = true;
    User = "stockroom";
    StateDirectory = "stockroom";
    StateDirectoryMode = "0700";
    WorkingDirectory = "%S/stockroom";
    UMask = "0077";

    CapabilityBoundingSet = "";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateTmp = true;
    PrivateUsers = true;
    ProcSubset = "pid";
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProtectSystem = "strict";
    RemoveIPC = true;
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
    ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
      # The soft limit on open files is raised to fit the connections.
      "prlimit64 setrlimit"
    ];
  };

  sqlite = "sqlite:/var/lib/stockroom/stockroom.db";
  usesSqlite = cfg.database.url == sqlite && cfg.database.urlFile == null;
in
{
  options.services.stockroom = {
    enable = lib.mkEnableOption "Stockroom, an inventory service with exact stock";

    package = lib.mkPackageOption pkgs "stockroom" { };

    address = lib.mkOption {
      type = lib.types.str;
      default = "127.0.0.1";
      example = "[::]";
      description = "The address to listen on; an IPv6 address is put in brackets.";
    };

    port = lib.mkOption {
      type = lib.types.port;
      default = 8080;
      description = "The port to listen on.";
    };

    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Whether to let other machines reach the port.";
    };

    auth = lib.mkOption {
      type = lib.types.enum [
        "auto"
        "tokens"
        "none"
      ];
      default = if cfg.tokensFile == null then "auto" else "tokens";
      defaultText = lib.literalMD "`tokens` with a `tokensFile`, else `auto`";
      description = "Clients that may use the API: with `tokens` those with a token, with `auto` those on this machine, with `none` all.";
    };

    tokensFile = lib.mkOption {
      type = lib.types.nullOr lib.types.externalPath;
      default = null;
      example = "/run/secrets/stockroom-tokens";
      description = "A file with the lines that `stockroom token new` prints. Only root needs to be able to read it; it is read at each start.";
    };

    database = {
      url = lib.mkOption {
        type = lib.types.str;
        default =
          if cfg.database.createLocally then
            "postgres://stockroom@/stockroom?host=/run/postgresql"
          else
            sqlite;
        defaultText = lib.literalMD "`${sqlite}`, or the local PostgreSQL";
        description = "Where the inventory is kept. Everyone on the machine can read it: see `urlFile`.";
      };

      urlFile = lib.mkOption {
        type = lib.types.nullOr lib.types.externalPath;
        default = null;
        example = "/run/secrets/stockroom-database";
        description = "The file that holds the URL, if it has a password. Only root needs to be able to read it.";
      };

      createLocally = lib.mkEnableOption "a PostgreSQL database on this machine, reached by its socket without a password";
    };

    settings = lib.mkOption {
      type = lib.types.attrsOf (
        lib.types.oneOf [
          lib.types.bool
          lib.types.int
          lib.types.str
        ]
      );
      default = { };
      example = {
        MAX_CONNECTIONS = 4096;
        REQUIRE_IF_MATCH = true;
      };
      description = "Further settings, as docs/configuration.md lists them, without `STOCKROOM_`. No secrets: everyone can read them.";
    };

    backup = {
      enable = lib.mkEnableOption "copies of the SQLite database into {file}`/var/lib/stockroom/backups`";

      startAt = lib.mkOption {
        type = lib.types.str;
        default = "daily";
        description = "When to make a copy, in the form of {manpage}`systemd.time(7)`.";
      };

      keep = lib.mkOption {
        type = lib.types.ints.positive;
        default = 7;
        description = "How many copies to keep.";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = !(cfg.database.createLocally && cfg.database.urlFile != null);
        message = "services.stockroom.database: createLocally and urlFile exclude each other";
      }
      {
        assertion = cfg.backup.enable -> usesSqlite;
        message = "services.stockroom.backup copies the SQLite database, which is not the one in use";
      }
      {
        assertion = cfg.openFirewall -> cfg.auth != "auto";
        message = "services.stockroom.openFirewall lets others reach the API: set tokensFile, or auth = \"none\" to let everyone in";
      }
      {
        assertion = cfg.auth == "tokens" -> cfg.tokensFile != null;
        message = "services.stockroom.auth = \"tokens\" needs tokensFile";
      }
    ];

    systemd.services.stockroom = {
      description = "Stockroom, an inventory service with exact stock";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ] ++ lib.optional cfg.database.createLocally "postgresql.target";
      requires = lib.optional cfg.database.createLocally "postgresql.target";

      environment =
        lib.mapAttrs' (name: value: {
          name = "STOCKROOM_${name}";
          value = if lib.isBool value then lib.boolToString value else toString value;
        }) cfg.settings
        // {
          STOCKROOM_LISTEN = "${cfg.address}:${toString cfg.port}";
          STOCKROOM_AUTH = cfg.auth;
        }
        // lib.optionalAttrs (cfg.database.urlFile == null) { STOCKROOM_DATABASE = cfg.database.url; };

      # Nothing but the environment keeps a URL with a password from the list of processes.
      script = ''
        ${lib.optionalString (cfg.database.urlFile != null) ''
          STOCKROOM_DATABASE=$(< "$CREDENTIALS_DIRECTORY/database")
          export STOCKROOM_DATABASE
        ''}
        exec ${lib.getExe cfg.package} ${
          lib.optionalString (cfg.tokensFile != null) ''--tokens-file "$CREDENTIALS_DIRECTORY/tokens"''
        }
      '';

      serviceConfig = confined // {
        Type = "notify";
        LoadCredential =
          lib.optional (cfg.database.urlFile != null) "database:${cfg.database.urlFile}"
          ++ lib.optional (cfg.tokensFile != null) "tokens:${cfg.tokensFile}";
        # A migration of a large database takes minutes.
        TimeoutStartSec = "30min";
        Restart = "on-failure";
        # More than the 8 s that requests may go on after SIGTERM.
        TimeoutStopSec = 15;
      };
    };

    systemd.services.stockroom-backup = lib.mkIf cfg.backup.enable {
      description = "A copy of Stockroom's database";
      inherit (cfg.backup) startAt;
      environment.STOCKROOM_DATABASE = cfg.database.url;

      # A copy gets its name once it is whole, and the names are in the order of time.
      script = ''
        mkdir -p backups
        ${lib.getExe cfg.package} backup "backups/$(date --utc +%Y-%m-%dT%H%M%SZ).db"
        find backups -name '*Z.db' | sort | head --lines=-${toString cfg.backup.keep} | xargs --no-run-if-empty rm
      '';

      serviceConfig = confined // {
        Type = "oneshot";
        PrivateNetwork = true;
      };
    };

    services.postgresql = lib.mkIf cfg.database.createLocally {
      enable = true;
      ensureDatabases = [ "stockroom" ];
      ensureUsers = [
        {
          name = "stockroom";
          ensureDBOwnership = true;
        }
      ];
    };

    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;
  };
}
