package tidemark

import java.io.IOException
import java.lang.{Boolean => JBoolean}
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.{FileAlreadyExistsException, Files, Paths, StandardCopyOption}
import java.util.{Iterator => JIterator}

import scala.jdk.CollectionConverters._

import io.delta.storage.HadoopFileSystemLogStore
import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.Path

/** Delta's commits in a folder. A hard link is created only if its name is new, whichever process creates it. */
final class FileLogStore(conf: Configuration) extends HadoopFileSystemLogStore(conf) {

  override def write(path: Path, actions: JIterator[String], overwrite: JBoolean, conf: Configuration): Unit = {
    val commit = Paths.get(path.toUri.getPath)
    val complete = Paths.get(createTempPath(path).toUri.getPath)
    try {
      Files.write(complete, Lines(actions))
      if (overwrite) Files.move(complete, commit, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
      else Files.createLink(commit, complete)
    } finally Files.deleteIfExists(complete)
  }

  override def isPartialWriteVisible(path: Path, conf: Configuration): JBoolean = true
}

/** Delta's commits in S3. A conditional write (If-None-Match: *) creates an object only if its key is new. */
final class S3LogStore(conf: Configuration) extends HadoopFileSystemLogStore(conf) {

  override def write(path: Path, actions: JIterator[String], overwrite: JBoolean, conf: Configuration): Unit = {
    val lines = Lines(actions)
    val files = path.getFileSystem(conf)
    try {
      val commit = files.createFile(path).overwrite(overwrite).must("fs.option.create.conditional.overwrite", !overwrite).build()
      commit.write(lines)
      commit.close() // only after a complete write: closing creates the object
    } catch {
      case error: IOException if !overwrite && files.exists(path) =>
        throw new FileAlreadyExistsException(path.toString).initCause(error)
    }
  }

  override def isPartialWriteVisible(path: Path, conf: Configuration): JBoolean = false
}

private object Lines {
  def apply(actions: JIterator[String]): Array[Byte] = actions.asScala.map(_ + "\n").mkString.getBytes(UTF_8)
}
