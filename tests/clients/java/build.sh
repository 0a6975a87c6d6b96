# Fetches what pom.xml names and compiles the programs beside it, into /out.
set -e

# Java reads certificates from a store of its own; the host's may include a company's.
trusted=/tmp/trusted.p12
openssl pkcs12 -export -nokeys -jdktrust anyExtendedKeyUsage -in /etc/ssl/certs/ca-certificates.crt \
  -passout pass:trusted -out $trusted
MAVEN_OPTS="-Djavax.net.ssl.trustStore=$trusted -Djavax.net.ssl.trustStorePassword=trusted $MAVEN_OPTS"
export MAVEN_OPTS

# Maven knows proxies from its settings alone.
proxy=${https_proxy:-$HTTPS_PROXY}
if [ -n "$proxy" ] && [ ! -e ~/.m2/settings.xml ]; then
  proxy=${proxy#*://}
  proxy=${proxy%%/*}
  mkdir -p ~/.m2
  cat > ~/.m2/settings.xml <<END
<settings><proxies><proxy>
  <protocol>https</protocol><host>${proxy%:*}</host><port>${proxy##*:}</port>
</proxy></proxies></settings>
END
fi

cd /source
mvn --batch-mode --no-transfer-progress dependency:copy-dependencies -DoutputDirectory=/out
java -jar /out/ecj-*.jar -21 -proc:none -classpath "$(printf %s: /out/*.jar)" -d /out ./*.java
rm /out/ecj-*.jar
